/** A prompt with places for columns, `Input: {{address}}`. */
export interface Template {
  /** Names of the columns, each once, in order of appearance. */
  readonly columns: readonly string[];
  /** @param valueOf value of a column that `columns` names */
  readonly render: (valueOf: (column: string) => string) => string;
}

/** Names are taken without the spaces around them. A `{{` that is never closed is text. */
export function parseTemplate(text: string): Template {
  // With one group, split returns text and names in turn.
  const parts = text.split(/\{\{([^{}]*)\}\}/).map((part, i) => (i % 2 === 0 ? part : part.trim()));
  return {
    columns: [...new Set(parts.filter((_, i) => i % 2 === 1))],
    render: (valueOf) => parts.map((part, i) => (i % 2 === 0 ? part : valueOf(part))).join(''),
  };
}
