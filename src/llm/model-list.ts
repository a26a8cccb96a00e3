/** The models on this machine: those of the hub's cache, and those that were converted. */
import { readdir, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { listCache, removeModel, snapshotFiles } from '../hub/cache.ts';
import { looksLikeModelName } from '../hub/model-name.ts';
import { hubSettings } from '../hub/settings.ts';
import { byteLengthOf, elementCount, type WeightType } from '../tensor/dtype.ts';
import { UsageError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import { outputTensors } from '../convert/output-tensors.ts';
import { cacheFolder } from './model-cache.ts';
import { openModelSource } from './model-source.ts';

export interface ListedModel {
  /** What `models remove` takes. */
  readonly name: string;
  /** What `-m` takes. */
  readonly use: string;
  readonly origin: 'hub' | 'converted';
  readonly bytes: number;
  /** Missing where the model cannot be opened, with the reason in `problem`. */
  readonly family?: string;
  readonly contextLength?: number;
  /** The type of most weights. */
  readonly type?: WeightType;
  readonly problem?: string;
}

export async function listModels(): Promise<ListedModel[]> {
  const { cache } = await hubSettings();
  const fetched = await Promise.all(
    (await listCache(cache)).map(({ repository, bytes, snapshots }) => listFetched(repository, bytes, snapshots[0])),
  );
  const files = await convertedFiles();
  const converted = await Promise.all(
    files.map(async (file) => ({
      name: basename(file),
      use: file,
      origin: 'converted' as const,
      bytes: (await stat(file)).size,
      ...(await describe(file)),
    })),
  );
  return [...fetched.flat(), ...converted];
}

/** A repository, or each of its GGUF files. */
async function listFetched(repository: string, bytes: number, snapshot: string | undefined): Promise<ListedModel[]> {
  const common = { name: repository, origin: 'hub' as const };
  if (snapshot === undefined) return [{ ...common, use: repository, bytes, problem: 'not fetched completely' }];
  const files = await snapshotFiles(snapshot);
  const ggufs = files.filter(({ path }) => /\.gguf$/i.test(path) && !/-(?!00001)\d{5}-of-\d{5}\.gguf$/i.test(path));
  if (ggufs.length === 0 || files.some(({ path }) => path === 'config.json'))
    return [{ ...common, use: repository, bytes, ...(await describe(snapshot)) }];
  return Promise.all(
    ggufs.map(async (file) => ({
      ...common,
      use: join(snapshot, file.path),
      bytes: file.bytes,
      ...(await describe(join(snapshot, file.path))),
    })),
  );
}

async function convertedFiles(): Promise<string[]> {
  const folder = join(cacheFolder(), 'models');
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith('.gguf')).map((name) => join(folder, name));
}

async function describe(path: string): Promise<Pick<ListedModel, 'family' | 'contextLength' | 'type' | 'problem'>> {
  await using lifetime = new Lifetime();
  try {
    const { model, weights } = await openModelSource(path, lifetime);
    const sizes = new Map<WeightType, number>();
    for (const { dtype, shape } of outputTensors(model, weights))
      sizes.set(dtype, (sizes.get(dtype) ?? 0) + byteLengthOf(dtype, elementCount(shape)));
    const [largest] = [...sizes].toSorted((a, b) => b[1] - a[1]);
    return { family: model.family, contextLength: model.contextLength, ...(largest && { type: largest[0] }) };
  } catch (error) {
    return { problem: error instanceof Error ? error.message : String(error) };
  }
}

/** @returns bytes that were freed. @throws {UsageError} when there is no such model */
export async function removeListed(name: string): Promise<number> {
  const { cache } = await hubSettings();
  const removed = looksLikeModelName(name) ? await removeModel(cache, name) : undefined;
  if (removed !== undefined) return removed;
  const file = (await convertedFiles()).find((path) => path === name || basename(path) === name);
  if (file === undefined)
    throw new UsageError(`${name}: there is no such model in the caches; \`flexllmgen models list\` shows what there is`);
  const { size } = await stat(file);
  await rm(file);
  return size;
}
