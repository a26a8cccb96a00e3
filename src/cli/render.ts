/** Plain text for terminals. */

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** Longer cells are cut with an ellipsis. Default: no limit. */
  readonly maxWidth?: number;
}

/** A table with aligned columns, two spaces between them, each line indented by two; ends with a newline. */
export function renderTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const cells = rows.map((row) => columns.map((column, c) => shorten(oneLine(row[c] ?? ''), column.maxWidth ?? Infinity)));
  const titles = columns.map((column) => column.title);
  const widths = columns.map((_, c) => Math.max(...[titles, ...cells].map((row) => displayWidth(row[c] ?? ''))));
  const line = (row: readonly string[]): string =>
    `  ${columns.map((column, c) => pad(row[c] ?? '', widths[c] ?? 0, column.align)).join('  ')}`.trimEnd();
  const rule = widths.map((width) => '-'.repeat(width));
  return [titles, rule, ...cells].map((row) => `${line(row)}\n`).join('');
}

/** Pairs of label and value, the values in one column. A value of several lines keeps its indentation. */
export function renderFacts(facts: readonly (readonly [label: string, value: string])[]): string {
  const width = Math.max(...facts.map(([label]) => displayWidth(label)));
  const indent = ' '.repeat(width + 4);
  return facts.map(([label, value]) => `  ${pad(label, width)}  ${value.replaceAll('\n', `\n${indent}`)}\n`).join('');
}

/** Line breaks and tabs made visible, other control characters dropped: cell contents must not move the cursor. */
export function oneLine(text: string): string {
  return text
    .replaceAll('\r', '')
    .replaceAll('\n', '\\n')
    .replaceAll('\t', '\\t')
    .replaceAll(/\p{Cc}/gu, '');
}

/** At most `width` characters, the last one an ellipsis if something was cut. */
export function shorten(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}

function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const gap = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'right' ? gap + text : text + gap;
}

/** Code points; terminals draw some East Asian characters twice as wide, which then only costs the alignment. */
function displayWidth(text: string): number {
  return Array.from(text).length;
}
