const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', '\\': '\\' };

/**
 * Replaces `\n`, `\t` and `\\` as typed in a shell, which passes them on as they are. Any other backslash stays, so that a regular expression or a
 * Windows path survives.
 */
export function unescapeText(text: string): string {
  return text.replaceAll(/\\([nt\\])/g, (_, letter: string) => ESCAPES[letter] ?? letter);
}
