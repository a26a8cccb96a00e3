import { fingerprintOf } from './fingerprint.ts';
import { type ModelFolder, readModelFolder } from './model-folder.ts';
import type { StoredTensor } from './tensor-entry.ts';
import { closeAll, openWeightFiles } from './weight-files.ts';

/** An open model folder: its configuration, and where each tensor lies. Disposing closes the files. */
export interface Checkpoint extends ModelFolder, AsyncDisposable {
  readonly entries: ReadonlyMap<string, StoredTensor>;
  /** SHA-256 in hex over configuration, tokenizer files and samples of the weights: another model has another one. */
  fingerprint(): Promise<string>;
}

/**
 * Opens a Hugging Face folder with `config.json` and weights as safetensors or PyTorch `.bin`, single or sharded. Reads only the tables of the weights.
 * @throws {UsageError} when `folder` is missing or is no folder
 * @throws {FormatError} when something is missing or damaged; nothing stays open then
 */
export async function openCheckpoint(folder: string): Promise<Checkpoint> {
  const facts = await readModelFolder(folder);
  const { files, entries } = await openWeightFiles(folder, facts.names);
  return {
    ...facts,
    entries,
    fingerprint: () => fingerprintOf(folder, facts.names, files),
    [Symbol.asyncDispose]: () => closeAll(files),
  };
}
