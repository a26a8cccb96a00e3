/** Finds what a user names: a folder, a GGUF file or the bundled model where there is one, else a model of the hub. */
import type { WriteOptions } from '../convert/write-model.ts';
import { looksLikeModelName, parseModelName } from '../hub/model-name.ts';
import { pullModel } from '../hub/pull.ts';
import { hubSettings } from '../hub/settings.ts';
import { fileExists } from '../util/durable-file.ts';
import { HubError } from '../util/errors.ts';
import type { Lifetime } from '../util/lifetime.ts';
import { type ModelSource, openModelSource, type SourceOptions } from './model-source.ts';

/** A model is fetched from the hub, or written in another form. */
export interface PreparationProgress {
  readonly what: 'download' | 'conversion';
  /** `reused` are those of `done` that were there before. */
  readonly bytes: { readonly total: number; readonly done: number; readonly reused: number };
  readonly seconds: number;
}

export interface PreparationOptions extends SourceOptions {
  readonly onPreparation?: ((progress: PreparationProgress) => void) | undefined;
  /** What takes time, or is not as asked for, in a sentence. */
  readonly onNotice?: ((notice: string) => void) | undefined;
  /** Keeps what was fetched or written, and rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/** @throws {UsageError} {FormatError} as `openModelSource`; {HubError} when the hub has no such model, or will not give it */
export async function openNamedSource(name: string, lifetime: Lifetime, options: PreparationOptions = {}): Promise<ModelSource> {
  if (!(await isOfTheHub(name))) return openModelSource(name, lifetime, options);
  return { ...(await openModelSource(await fetchModel(name, options), lifetime, options)), name };
}

/** Brings a model of the hub here. @returns its folder, or its GGUF file */
export async function fetchModel(name: string, { onPreparation, onNotice, signal }: PreparationOptions): Promise<string> {
  const pull = pullModel(parseModelName(name), await hubSettings(), {
    signal,
    onNotice,
    onProgress: (progress) => onPreparation?.({ what: 'download', ...progress }),
  });
  const { path } = await pull.catch((error: unknown) => {
    if (!(error instanceof HubError)) throw error;
    throw new HubError(`${error.message}. There is no file or folder ${name} either`, error.facts, { cause: error });
  });
  return path;
}

/** The part of `options` that a conversion takes. */
export const writeOptions = ({ onPreparation, signal }: PreparationOptions): WriteOptions => ({
  signal,
  onProgress: ({ bytes, seconds }) => onPreparation?.({ what: 'conversion', bytes, seconds }),
});

/** Files go first. A name without an owner is a slip more often than one of the hub's oldest models, which `models pull` fetches. */
async function isOfTheHub(name: string): Promise<boolean> {
  if (!name.includes('/') || !looksLikeModelName(name)) return false;
  return !/\.gguf$/i.test(name) && !(await fileExists(name).catch(() => true));
}
