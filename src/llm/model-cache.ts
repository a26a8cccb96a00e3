/** Where converted models are kept for the next start. */
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { StorageType } from '../weights/storage-type.ts';

/** A part of a fingerprint that no two models of one user share. */
const FINGERPRINT_DIGITS = 16;
const MAX_NAME_CHARACTERS = 80;

/** `FLEXLLMGEN_CACHE`, else a folder where the system has such things. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { FLEXLLMGEN_CACHE: own, XDG_CACHE_HOME: shared } = environment;
  if (own) return resolve(own);
  return shared ? join(shared, 'flexllmgen') : join(homedir(), '.cache', 'flexllmgen');
}

/** The converted file of a model. Its folder is made. @throws the system's error when it cannot be */
export async function cachedFile(name: string, fingerprint: string, type: StorageType): Promise<string> {
  const folder = join(cacheFolder(), 'models');
  await mkdir(folder, { recursive: true });
  const readable = basename(resolve(name))
    .replace(/\.gguf$/i, '')
    .replace(/[^\w.-]+/g, '-')
    .slice(0, MAX_NAME_CHARACTERS);
  return join(folder, `${readable}-${fingerprint.slice(0, FINGERPRINT_DIGITS)}-${type}.gguf`);
}
