/** Fetches one file whole and checked, however often the connection breaks. */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileExists } from '../util/durable-file.ts';
import { HubError } from '../util/errors.ts';
import { guarded } from '../util/system-errors.ts';
import type { Fetch } from './client.ts';
import type { HubFile } from './select-files.ts';

export interface TransferOptions {
  /** Adds the token where it belongs; must not follow redirects by itself when asked not to. */
  readonly fetch: Fetch;
  readonly signal?: AbortSignal | undefined;
  /** Bytes that came; negative when they must come again. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
  /** Default 30 s: a connection that gives nothing for so long is dead. */
  readonly stallMs?: number;
  /** Default 1 s: before the second attempt; then twice as long each time. */
  readonly backoffMs?: number;
}

const STALL_MS = 30_000;
const BACKOFF_MS = 1000;
const MAX_BACKOFF_MS = 60_000;
/** Attempts in a row that bring nothing. */
const ATTEMPTS = 6;
const MAX_REDIRECTS = 10;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** The server's answer was no, and would be no again. */
class RefusedError extends HubError {}

/**
 * Fetches `url` into `path`, by way of `path.incomplete`, with which the next call goes on.
 * @throws {HubError} naming the file, after attempts that bring nothing, or when its hash is wrong twice
 */
export async function fetchFile(url: string, path: string, file: HubFile, options: TransferOptions): Promise<void> {
  if (await fileExists(path)) return options.onBytes?.(file.bytes);
  await mkdir(dirname(path), { recursive: true });
  const partial = `${path}.incomplete`;
  for (const last of [false, true]) {
    await fetchAll(url, partial, file, options);
    const found = await hashOf(partial, file);
    if (found === file.hash) {
      await rename(partial, path);
      return;
    }
    await rm(partial);
    options.onBytes?.(-file.bytes);
    if (last) throw new HubError(`${file.path}: hash ${file.hash} expected, got ${found}, twice; the hub or what lies between is damaged`);
  }
}

async function fetchAll(url: string, partial: string, file: HubFile, options: TransferOptions): Promise<void> {
  const handle = await guarded(partial, open(partial, 'a+'));
  try {
    let have = (await handle.stat()).size;
    if (have > file.bytes) {
      await handle.truncate(0);
      have = 0;
    }
    options.onBytes?.(have);
    for (let attempt = 1; have < file.bytes;) {
      const before = have;
      try {
        have = await fetchRest(url, handle, have, file, options);
      } catch (cause) {
        options.signal?.throwIfAborted();
        have = (await handle.stat()).size;
        attempt = have > before ? 1 : attempt + 1;
        if (cause instanceof RefusedError || attempt > ATTEMPTS || isLocal(cause)) throw describe(file, cause);
        await sleep(waitOf(cause, attempt, options), undefined, { signal: options.signal });
      }
    }
    await guarded(partial, handle.sync());
  } finally {
    await handle.close();
  }
}

/** One request for what is missing. @returns bytes that are there then */
async function fetchRest(url: string, handle: FileHandle, have: number, file: HubFile, options: TransferOptions): Promise<number> {
  const stalled = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, stalled.signal]) : stalled.signal;
  const stall = (): void => stalled.abort(new Error('no bytes came for a while'));
  let timer = setTimeout(stall, options.stallMs ?? STALL_MS);
  try {
    const response = await followRedirects(url, have > 0 ? { range: `bytes=${have}-` } : {}, options.fetch, signal);
    let at = await startOf(response, handle, have, options);
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      clearTimeout(timer);
      timer = setTimeout(stall, options.stallMs ?? STALL_MS);
      if (at + chunk.byteLength > file.bytes) throw new RefusedError(`more than the ${file.bytes} bytes that the hub lists`);
      await guarded(file.path, handle.appendFile(chunk));
      at += chunk.byteLength;
      options.onBytes?.(chunk.byteLength);
    }
    if (at < file.bytes) throw new HubError(`ended after ${at} of ${file.bytes} bytes`);
    return at;
  } finally {
    clearTimeout(timer);
  }
}

/** Where the body begins: a server that ignores ranges sends everything again. */
async function startOf(response: Response, handle: FileHandle, have: number, options: TransferOptions): Promise<number> {
  if (response.status === 206) {
    const start = Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1]);
    if (start === have) return have;
    throw new RefusedError(`bytes from ${have} on were asked for, the hub sent them from ${start} on`);
  }
  if (response.status === 200) {
    if (have > 0) {
      await handle.truncate(0);
      options.onBytes?.(-have);
    }
    return 0;
  }
  await response.body?.cancel();
  const retryAfter = Number(response.headers.get('retry-after'));
  if (response.status === 429 || response.status >= 500)
    throw new HubError(`the hub answers with status ${response.status}`, { ...(retryAfter > 0 && { retryAfter }) });
  throw new RefusedError(`the hub refuses it with status ${response.status}`, { status: response.status });
}

/** By hand, so that each address gets the headers that belong to it. */
async function followRedirects(url: string, headers: Record<string, string>, request: Fetch, signal: AbortSignal): Promise<Response> {
  let target = url;
  for (let i = 0; i < MAX_REDIRECTS; i++) {
    const response = await request(target, { headers, signal, redirect: 'manual' });
    const location = response.headers.get('location');
    if (!REDIRECTS.has(response.status) || location === null) return response;
    await response.body?.cancel();
    target = new URL(location, target).href;
  }
  throw new RefusedError(`more than ${MAX_REDIRECTS} redirects`);
}

function waitOf(cause: unknown, attempt: number, { backoffMs = BACKOFF_MS }: TransferOptions): number {
  const { retryAfter } = cause instanceof HubError ? cause.facts : {};
  const wait = typeof retryAfter === 'number' ? 1000 * retryAfter : backoffMs * 2 ** (attempt - 1);
  return Math.min(wait, MAX_BACKOFF_MS);
}

/** Failures of the disk are not mended by fetching again. */
const isLocal = (cause: unknown): boolean => cause instanceof Error && 'code' in cause && cause.code === 'disk-full';

function describe({ path }: HubFile, cause: unknown): Error {
  if (isLocal(cause)) return cause as Error;
  const { message, cause: inner } = cause as Error & { cause?: Error };
  const facts = cause instanceof HubError ? cause.facts : {};
  return new HubError(`${path}: ${message}${inner?.message ? ` (${inner.message})` : ''}`, facts, { cause });
}

/** SHA-256, or the SHA-1 that git gives a content. */
async function hashOf(path: string, { hash, bytes }: HubFile): Promise<string> {
  const digest: Hash = hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
  const handle = await open(path);
  try {
    for await (const chunk of handle.createReadStream({ highWaterMark: 1 << 20, autoClose: false })) digest.update(chunk as Buffer);
  } finally {
    await handle.close();
  }
  return digest.digest('hex');
}

/** Bytes of a content that are here already. */
export async function presentBytes(path: string): Promise<number> {
  const [whole, partial] = await Promise.all([path, `${path}.incomplete`].map((name) => stat(name).catch(() => undefined)));
  return whole?.size ?? partial?.size ?? 0;
}
