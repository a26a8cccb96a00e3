import { FlexError } from './errors.ts';

/** No room for a file: disk, quota or file-size limit. What was written before is kept. */
export class DiskFullError extends FlexError {
  constructor(path: string, cause: Error & { code?: string }) {
    super('disk-full', `no room to write ${path} (${cause.code ?? cause.message})`, { path }, { cause });
  }
}

const FULL_CODES = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** Turns "no space left" of an operation on `path` into a DiskFullError. */
export async function guarded<T>(path: string, operation: Promise<T>): Promise<T> {
  try {
    return await operation;
  } catch (error) {
    if (error instanceof Error && FULL_CODES.has(errorCode(error) ?? '')) throw new DiskFullError(path, error);
    throw error;
  }
}

/** An error of the file system in words. */
export function reason(error: unknown): string {
  const words: Record<string, string> = {
    ENOENT: 'does not exist',
    ENOTDIR: 'is not in a folder',
    EACCES: 'permission denied',
    EPERM: 'not permitted',
    EROFS: 'the file system is read-only',
    ENAMETOOLONG: 'the name is too long',
  };
  return words[errorCode(error) ?? ''] ?? (error instanceof Error ? error.message : String(error));
}
