/** Where models come from and where they are kept: the variables of Python's huggingface_hub, with their meaning. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { UsageError } from '../util/errors.ts';

export interface HubSettings {
  /** Origin and path of the hub, without a slash at the end. */
  readonly endpoint: string;
  /** Sent to the endpoint and nowhere else. Never part of a message. */
  readonly token?: string;
  /** Folder of the cache that Python's huggingface_hub uses too. */
  readonly cache: string;
  /** The network must not be used. */
  readonly offline: boolean;
}

const DEFAULT_ENDPOINT = 'https://huggingface.co';
const TRUE = new Set(['1', 'on', 'yes', 'true']);

/** @throws {UsageError} when `HF_ENDPOINT` is no address */
export async function hubSettings(environment: NodeJS.ProcessEnv = process.env): Promise<HubSettings> {
  const { HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, XDG_CACHE_HOME } = environment;
  const home = HF_HOME ? HF_HOME : join(XDG_CACHE_HOME ? XDG_CACHE_HOME : join(homedir(), '.cache'), 'huggingface');
  const token = (HF_TOKEN ?? (await readFile(HF_TOKEN_PATH ? HF_TOKEN_PATH : join(home, 'token'), 'utf8').catch(() => ''))).trim();
  return {
    endpoint: checkEndpoint(HF_ENDPOINT ? HF_ENDPOINT : DEFAULT_ENDPOINT),
    ...(token !== '' && { token }),
    cache: HF_HUB_CACHE ? HF_HUB_CACHE : join(home, 'hub'),
    offline: TRUE.has((HF_HUB_OFFLINE ?? '').toLowerCase()),
  };
}

function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url?.protocol !== 'https:' && url?.protocol !== 'http:')
    throw new UsageError(`HF_ENDPOINT: an http or https address expected, got ${text}`);
  return text.replace(/\/+$/, '');
}
