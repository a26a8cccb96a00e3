/**
 * The cache of Python's huggingface_hub, byte for byte: `models--owner--name/` with `refs/REVISION` (a commit), `blobs/HASH` (contents) and
 * `snapshots/COMMIT/PATH` (relative links to blobs). What either program fetched, the other finds.
 */
import { copyFile, lstat, mkdir, readdir, readFile, readlink, realpath, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { isCommit, type ModelName } from './model-name.ts';
import type { HubFile } from './select-files.ts';

const PREFIX = 'models--';

export interface CachedModel {
  readonly repository: string;
  readonly folder: string;
  /** Branches and tags that were asked for. */
  readonly revisions: readonly string[];
  /** Of all contents, each once. */
  readonly bytes: number;
  /** Folders of snapshots, newest first. */
  readonly snapshots: readonly string[];
}

export const repositoryFolder = (cache: string, repository: string): string => join(cache, `${PREFIX}${repository.replaceAll('/', '--')}`);

/** Where contents are, whole and, with `.incomplete`, half fetched. */
export const blobPath = (folder: string, hash: string): string => join(folder, 'blobs', hash);

export const snapshotFolder = (folder: string, commit: string): string => join(folder, 'snapshots', commit);

/** The commit that a revision meant when it was last asked for. */
export async function cachedCommit(folder: string, revision: string): Promise<string | undefined> {
  if (isCommit(revision)) return revision;
  const text = await readFile(join(folder, 'refs', revision), 'utf8').catch(() => '');
  return isCommit(text.trim()) ? text.trim() : undefined;
}

/** Remembers what a revision means. */
export async function saveCommit(folder: string, { revision }: ModelName, commit: string): Promise<void> {
  if (isCommit(revision)) return;
  const file = join(folder, 'refs', revision);
  await mkdir(dirname(file), { recursive: true });
  const partial = `${file}.${process.pid}`;
  await writeFile(partial, commit);
  await rename(partial, file);
}

/** Files of a snapshot with their sizes; empty when it is not there. Links whose content is missing do not count. */
export async function snapshotFiles(snapshot: string): Promise<HubFile[]> {
  const entries = await readdir(snapshot, { recursive: true, withFileTypes: true }).catch(() => []);
  const files: HubFile[] = [];
  for (const entry of entries) {
    const path = join(entry.parentPath, entry.name);
    const facts = await stat(path).catch(() => undefined);
    if (!facts?.isFile()) continue;
    const target = await readlink(path).catch(() => '');
    files.push({ path: relative(snapshot, path).replaceAll('\\', '/'), bytes: facts.size, hash: basename(target) });
  }
  return files;
}

/** Puts a content into a snapshot under its name. Where links are not allowed, as on Windows, the content itself moves there. */
export async function linkFile(folder: string, commit: string, { path, hash }: HubFile): Promise<void> {
  const target = join(snapshotFolder(folder, commit), path);
  const blob = blobPath(folder, hash);
  await mkdir(dirname(target), { recursive: true });
  if (await stat(target).catch(() => undefined)) return;
  await rm(target, { force: true });
  try {
    await symlink(relative(dirname(target), blob), target);
  } catch (error) {
    if (await stat(target).catch(() => undefined)) return;
    if (process.platform !== 'win32') throw error;
    await copyFile(blob, `${target}.${process.pid}`);
    await rename(`${target}.${process.pid}`, target);
  }
}

/** All models of the cache by name. */
export async function listCache(cache: string): Promise<CachedModel[]> {
  const names = await readdir(cache).catch(() => []);
  const models = await Promise.all(names.filter((name) => name.startsWith(PREFIX)).map((name) => describeModel(join(cache, name))));
  return models.toSorted((a, b) => (a.repository < b.repository ? -1 : 1));
}

async function describeModel(folder: string): Promise<CachedModel> {
  const refs = await readdir(join(folder, 'refs'), { recursive: true, withFileTypes: true }).catch(() => []);
  const snapshots = await readdir(join(folder, 'snapshots')).catch(() => []);
  const dated = await Promise.all(
    snapshots.map(async (name) => ({ path: join(folder, 'snapshots', name), at: (await stat(join(folder, 'snapshots', name))).mtimeMs })),
  );
  return {
    repository: basename(folder).slice(PREFIX.length).replace('--', '/'),
    folder,
    revisions: refs.filter((entry) => entry.isFile()).map(({ parentPath, name }) => relative(join(folder, 'refs'), join(parentPath, name))),
    bytes: await folderBytes(folder),
    snapshots: dated.toSorted((a, b) => b.at - a.at).map(({ path }) => path),
  };
}

async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const sizes = await Promise.all(
    entries.filter((entry) => entry.isFile()).map(async ({ parentPath, name }) => (await lstat(join(parentPath, name))).size),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Removes all revisions of a model. @returns bytes that were freed; undefined when the cache does not have it */
export async function removeModel(cache: string, repository: string): Promise<number | undefined> {
  const folder = repositoryFolder(cache, repository);
  const facts = await lstat(folder).catch(() => undefined);
  // A link would lead out of the cache.
  if (!facts?.isDirectory() || dirname(await realpath(folder)) !== (await realpath(resolve(cache)))) return undefined;
  const bytes = await folderBytes(folder);
  await rm(folder, { recursive: true });
  return bytes;
}
