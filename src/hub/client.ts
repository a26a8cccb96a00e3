/** What the hub says of a model, and its refusals in words that help. */
import { HubApiError, listFiles, modelInfo } from '@huggingface/hub';
import { HubError } from '../util/errors.ts';
import type { ModelName } from './model-name.ts';
import type { HubFile } from './select-files.ts';
import type { HubSettings } from './settings.ts';

export type Fetch = typeof fetch;

/** Repositories of datasets have millions of files, those of models some thousand at most. */
const MAX_FILES = 100_000;
const MAX_PATH_LENGTH = 1024;
/** For answers of a few kilobytes. */
const ANSWER_TIMEOUT_MS = 30_000;

/** Adds the token to requests to the endpoint, and to no others: a link or redirect may lead anywhere. */
export function authorised({ endpoint, token }: HubSettings, request: Fetch): Fetch {
  return async (input, init) => {
    const url = input instanceof Request ? input.url : String(input);
    const headers = new Headers(init?.headers);
    if (token !== undefined && new URL(url).origin === new URL(endpoint).origin) headers.set('authorization', `Bearer ${token}`);
    return request(url, { ...init, headers });
  };
}

export interface Listing {
  readonly commit: string;
  readonly files: readonly HubFile[];
}

/** The commit that a name means now, and its files. @throws {HubError} saying why there is none, and what to do */
export async function listModel(name: ModelName, settings: HubSettings, request: Fetch, signal?: AbortSignal): Promise<Listing> {
  const limited: Fetch = async (input, init) => {
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    return authorised(settings, request)(input, { ...init, signal: signal ? AbortSignal.any([signal, timeout]) : timeout });
  };
  const common = { hubUrl: settings.endpoint, fetch: limited };
  try {
    const { sha } = await modelInfo({ name: name.repository, revision: name.revision, additionalFields: ['sha'], ...common });
    if (!/^[0-9a-f]{40}$/.test(sha)) throw new HubError(`${name.repository}: the hub gave no commit for ${name.revision}`);
    const files: HubFile[] = [];
    for await (const { type, path, size, oid, lfs } of listFiles({ repo: name.repository, revision: sha, recursive: true, ...common })) {
      if (type !== 'file') continue;
      if (files.length === MAX_FILES) throw new HubError(`${name.repository}: more than ${MAX_FILES} files`);
      files.push(checkFile(name, { path, bytes: lfs?.size ?? size, hash: lfs?.oid ?? oid ?? '' }));
    }
    return { commit: sha, files };
  } catch (cause) {
    signal?.throwIfAborted();
    throw explain(name, settings, cause);
  }
}

/** Paths become names of files here, and hashes too. */
function checkFile({ repository }: ModelName, file: HubFile): HubFile {
  const { path, bytes, hash } = file;
  const parts = path.split('/');
  const safe =
    path.length <= MAX_PATH_LENGTH && parts.every((part) => part !== '' && part !== '.' && part !== '..' && !/[\\:\p{Cc}]/u.test(part));
  if (!safe) throw new HubError(`${repository}: a file is called ${JSON.stringify(path).slice(0, 100)}, which is no safe name`);
  if (!/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash) || !Number.isSafeInteger(bytes) || bytes < 0)
    throw new HubError(`${repository}: ${path} has no usable hash or size`);
  return file;
}

/** A refusal of the hub, or of the network, as an error for people. */
export function explain({ repository, revision }: ModelName, { endpoint, token }: HubSettings, cause: unknown): Error {
  if (cause instanceof HubError) return cause;
  const page = `${endpoint}/${repository}`;
  const status = cause instanceof HubApiError ? cause.statusCode : undefined;
  const make = (problem: string): HubError => new HubError(`${repository}: ${problem}`, { repository, revision, status }, { cause });
  if (status === undefined) return new HubError(`${endpoint} cannot be reached (${reasonOf(cause)})`, { network: true }, { cause });
  const { error } = (cause as HubApiError).data ?? {};
  const message = typeof error === 'string' ? error : '';
  if (/gated|restricted/i.test(message) || (status === 403 && token !== undefined))
    return make(
      `is gated; accept its conditions at ${page}${token === undefined ? ', and set HF_TOKEN' : ', with the account of your token'}`,
    );
  if (status === 401 || status === 403)
    return make(
      token === undefined
        ? 'is private or does not exist; for a private model set HF_TOKEN'
        : 'is private or does not exist, or the token is not valid',
    );
  if (status === 404)
    return make(
      /revision/i.test(message) ? `has no revision ${revision}` : `there is no such model at ${endpoint}, or no revision ${revision}`,
    );
  if (status === 429) return make('the hub refuses so many requests; try again in some minutes');
  return make(`the hub failed with status ${status}; try again later`);
}

function reasonOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: { code?: string; message?: string } };
  return cause?.code ?? cause?.message ?? message;
}
