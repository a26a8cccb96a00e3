/** Such as `ENOENT`, for messages; the error itself as text where the system gave no code. */
export function errorCode(cause: unknown): string {
  return cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
}
