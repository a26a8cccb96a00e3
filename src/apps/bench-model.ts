/** Finds the model that the benchmark's --model and --path mean. */
import os from 'node:os';
import { join } from 'node:path';
import { fileExists } from '../util/durable-file.ts';

export interface BenchModel {
  /** What `LLM.load` takes. */
  readonly name: string;
  readonly dummy: boolean;
}

/** Anywhere in the path it asks for random weights. */
const DUMMY = '_DUMMY_';

/**
 * Random weights of a published shape, or a model at `path`, or in it under the model's name, or what every other command takes `model` for: a
 * folder, a file, or a model of the hub.
 */
export async function findBenchModel(model: string, path: string): Promise<BenchModel> {
  const name = model.split('/').at(-1)!;
  if (path.includes(DUMMY)) return { name: name.toLowerCase(), dummy: true };
  const root = path === '~' || path.startsWith('~/') ? join(os.homedir(), path.slice(1)) : path;
  const names = [...new Set([name, name.toLowerCase()])];
  for (const place of [root, ...names.flatMap((each) => [join(root, each), join(root, `${each}.gguf`)])])
    if (await holdsModel(place)) return { name: place, dummy: false };
  return { name: model, dummy: false };
}

async function holdsModel(place: string): Promise<boolean> {
  return isThere(place.toLowerCase().endsWith('.gguf') ? place : join(place, 'config.json'));
}

/** What cannot be looked at holds nothing for us. */
const isThere = (path: string): Promise<boolean> => fileExists(path).catch(() => false);
