/** Characters of a file's content that a message shows. */
const MAX_SHOWN = 100;

/** A value from a file as part of a message: JSON, so that control characters cannot reach the terminal, and cut when long. */
export function quote(value: unknown): string {
  const text = stringify(value);
  return text.length > MAX_SHOWN ? `${text.slice(0, MAX_SHOWN)}...` : text;
}

function stringify(value: unknown): string {
  try {
    return JSON.stringify(value) ?? 'nothing';
  } catch {
    // JSON.parse accepts any depth, JSON.stringify runs out of stack.
    return 'a deeply nested value';
  }
}
