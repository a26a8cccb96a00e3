/** Brings a model of the hub into the cache, or finds it there. */
import { mkdir, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { FlexError, HubError } from '../util/errors.ts';
import { acquireLock, LockedError } from '../util/lock.ts';
import { formatBytes } from '../util/units.ts';
import { blobPath, cachedCommit, linkFile, repositoryFolder, saveCommit, snapshotFiles, snapshotFolder } from './cache.ts';
import { authorised, type Fetch, type Listing, listModel } from './client.ts';
import type { ModelName } from './model-name.ts';
import { type HubFile, type Selection, selectFiles } from './select-files.ts';
import type { HubSettings } from './settings.ts';
import { fetchFile, presentBytes, type TransferOptions } from './transfer.ts';

export interface PullProgress {
  /** Of all files; `reused` were here before. */
  readonly bytes: { readonly total: number; readonly done: number; readonly reused: number };
  readonly seconds: number;
}

export interface PullOptions extends Pick<TransferOptions, 'stallMs' | 'backoffMs'> {
  readonly onProgress?: ((progress: PullProgress) => void) | undefined;
  /** What takes time, or is not as asked for, in a sentence. */
  readonly onNotice?: ((notice: string) => void) | undefined;
  /** Keeps what was fetched and rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Default: the global one. */
  readonly fetch?: Fetch;
}

export interface PulledModel {
  /** What `LLM.load` takes: the folder of the snapshot, or the path of a GGUF file in it. */
  readonly path: string;
  readonly commit: string;
}

/** More at once bring little, and some servers refuse them. */
const PARALLEL = 4;
const WAIT_MS = 500;

/** @throws {HubError} {UsageError} saying why there is no such model here, and what to do; {FlexError} `disk-full`, before anything is fetched */
export async function pullModel(name: ModelName, settings: HubSettings, options: PullOptions = {}): Promise<PulledModel> {
  const folder = repositoryFolder(settings.cache, name.repository);
  const request = options.fetch ?? fetch;
  if (settings.offline) return fromCache(name, folder, `${name.repository} is not in ${settings.cache}, and HF_HUB_OFFLINE is set`);
  const listing = await listModel(name, settings, request, options.signal).catch(async (error: unknown) => {
    if (!(error instanceof HubError) || error.facts['network'] !== true) throw error;
    const cached = await fromCache(name, folder, error.message, error);
    options.onNotice?.(`${error.message}; the copy in the cache is used`);
    return cached;
  });
  if ('path' in listing) return listing;
  const selection = selectFiles(name, listing.files);
  await fetchSelection({ name, folder, listing, selection }, settings, { ...options, fetch: request });
  return pulled(folder, listing.commit, selection);
}

function pulled(folder: string, commit: string, { gguf }: Selection): PulledModel {
  const snapshot = snapshotFolder(folder, commit);
  return { path: gguf === undefined ? snapshot : join(snapshot, gguf), commit };
}

/** A snapshot that has all that the model needs, whichever program fetched it. */
async function fromCache(name: ModelName, folder: string, problem: string, cause?: Error): Promise<PulledModel> {
  const commit = await cachedCommit(folder, name.revision);
  const files = commit === undefined ? [] : await snapshotFiles(snapshotFolder(folder, commit));
  if (commit === undefined || files.length === 0) throw new HubError(problem, {}, { cause });
  const selection = selectFiles(name, files);
  const missing = missingParts(selection.files);
  if (missing !== undefined) throw new HubError(`${problem}; of its files there, ${missing} is missing`, {}, { cause });
  return pulled(folder, commit, selection);
}

/** The first file that the names of the others promise. */
function missingParts(files: readonly HubFile[]): string | undefined {
  const names = new Set(files.map(({ path }) => path));
  for (const { path } of files) {
    const [, stem, count, suffix] = /^(.*)-\d{5}-of-(\d{5})(\.\w+)$/.exec(path) ?? [];
    for (let i = 1; i <= Number(count ?? 0); i++) {
      const part = `${stem}-${String(i).padStart(5, '0')}-of-${count}${suffix}`;
      if (!names.has(part)) return part;
    }
  }
  return undefined;
}

interface Job {
  readonly name: ModelName;
  readonly folder: string;
  readonly listing: Listing;
  readonly selection: Selection;
}

async function fetchSelection(job: Job, settings: HubSettings, options: PullOptions & { fetch: Fetch }): Promise<void> {
  const { name, folder, listing, selection } = job;
  await mkdir(join(folder, 'blobs'), { recursive: true });
  await using _lock = await waitForLock(join(folder, '.flexllmgen.lock'), name.repository, options);
  await checkRoom(folder, selection.files);
  const total = selection.files.reduce((sum, { bytes }) => sum + bytes, 0);
  const began = performance.now();
  const stop = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stop.signal]) : stop.signal;
  let [done, reused] = [0, 0];
  const onBytes = (bytes: number, wasHere: boolean): void => {
    done += bytes;
    if (wasHere) reused += bytes;
    options.onProgress?.({ bytes: { total, done, reused }, seconds: (performance.now() - began) / 1000 });
  };
  const transfer = { ...options, fetch: authorised(settings, options.fetch), signal };
  const queue = [...selection.files];
  const work = async (): Promise<void> => {
    for (let file = queue.shift(); file && !signal.aborted; file = queue.shift()) {
      let here = true;
      const url = `${settings.endpoint}/${name.repository}/resolve/${listing.commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
      await fetchFile(url, blobPath(folder, file.hash), file, {
        ...transfer,
        onBytes: (bytes) => {
          onBytes(bytes, here);
          here = false;
        },
      });
    }
  };
  const workers = Array.from({ length: PARALLEL }, () => work().catch((error: unknown) => Promise.reject(stopAll(stop, error))));
  await Promise.allSettled(workers);
  options.signal?.throwIfAborted();
  if (stop.signal.aborted) throw stop.signal.reason;
  // A snapshot without its configuration is none: with it last, one that is there is whole.
  const [config, others] = [true, false].map((is) => selection.files.filter(({ path }) => (path === 'config.json') === is));
  for (const file of [...others!, ...config!]) await linkFile(folder, listing.commit, file);
  await saveCommit(folder, name, listing.commit);
}

function stopAll(stop: AbortController, error: unknown): unknown {
  stop.abort(error);
  return error;
}

/** Another process that fetches the same model does it for both. */
async function waitForLock(path: string, repository: string, { onNotice, signal }: PullOptions): Promise<AsyncDisposable> {
  for (let told = false; ; told = true) {
    try {
      return await acquireLock(path, repository);
    } catch (error) {
      if (!(error instanceof LockedError)) throw error;
      if (!told) onNotice?.(`waiting: ${error.message}`);
      await sleep(WAIT_MS, undefined, { signal });
    }
  }
}

async function checkRoom(folder: string, files: readonly HubFile[]): Promise<void> {
  const present = await Promise.all(files.map(({ hash }) => presentBytes(blobPath(folder, hash))));
  const needed = files.reduce((sum, { bytes }, i) => sum + Math.max(0, bytes - present[i]!), 0);
  const facts = await statfs(folder).catch(() => undefined);
  const free = facts ? facts.bavail * facts.bsize : Infinity;
  if (free >= needed) return;
  const problem = `${folder}: ${formatBytes(needed)} are needed, ${formatBytes(free)} are free; set HF_HUB_CACHE to a folder of another disk`;
  throw new FlexError('disk-full', problem, { needed, free });
}
