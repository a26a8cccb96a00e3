import { readdirSync, readFileSync, statSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { readJsonObject } from '../formats/json-file.ts';
import { MAX_CONFIG_BYTES } from '../formats/limits.ts';
import { buildModel } from '../models/registry.ts';
import { BUNDLED_MODEL, BUNDLED_NAME } from '../util/bundled.ts';
import { describeError } from './exit-code.ts';

/** A model folder on this machine. */
export interface FoundModel {
  readonly name: string;
  /** What `-m` takes. */
  readonly path: string;
  readonly origin: 'bundled' | 'models folder' | 'Hugging Face cache';
  /** `model_type` of its configuration. */
  readonly type: string;
  /** Size of the weights that can be read; 0 when there are none in a known format. */
  readonly weightBytes: number;
  /** Why it cannot be run; missing when nothing speaks against it. */
  readonly problem?: string;
}

export interface ModelPlaces {
  /** Holds one folder per model. */
  readonly modelsFolder: string;
  readonly hubCache: string;
}

/** Preferred first, as they are read: a folder can have the same weights twice. */
const WEIGHT_FILES = [/\.safetensors$/, /^pytorch_model.*\.bin$/];

/** Where models are looked for: `./models`, and the cache that Hugging Face's own tools fill. */
export function modelPlaces(env: NodeJS.ProcessEnv = process.env, cwd: string = process.cwd()): ModelPlaces {
  const home = env['HF_HOME'] ?? join(env['XDG_CACHE_HOME'] ?? join(os.homedir(), '.cache'), 'huggingface');
  return { modelsFolder: join(cwd, 'models'), hubCache: env['HF_HUB_CACHE'] ?? join(home, 'hub') };
}

/** All model folders that are found; what cannot be read is passed over. */
export async function findModels(places: ModelPlaces = modelPlaces()): Promise<FoundModel[]> {
  const bundled = inspect(BUNDLED_NAME, BUNDLED_MODEL, 'bundled');
  const local = list(places.modelsFolder)
    .map((name) => ({ name, path: join(places.modelsFolder, name) }))
    .filter(({ path }) => path !== BUNDLED_MODEL)
    .map(({ name, path }) => inspect(name, path, 'models folder'));
  const hub = list(places.hubCache).flatMap((folder) => {
    const [, owner, name] = /^models--(?:(.+?)--)?(.+)$/.exec(folder) ?? [];
    if (name === undefined) return [];
    const snapshot = currentSnapshot(join(places.hubCache, folder));
    return snapshot === undefined ? [] : inspect(owner === undefined ? name : `${owner}/${name}`, snapshot, 'Hugging Face cache');
  });
  return (await Promise.all([bundled, ...local, ...hub])).filter((model) => model !== undefined);
}

async function inspect(name: string, path: string, origin: FoundModel['origin']): Promise<FoundModel | undefined> {
  const file = join(path, 'config.json');
  const config = await readJsonObject(file, MAX_CONFIG_BYTES).catch(() => undefined);
  if (config === undefined) return undefined;
  const type = config['model_type'];
  const entries = list(path);
  const weights = WEIGHT_FILES.map((kind) => entries.filter((entry) => kind.test(entry))).find(({ length }) => length > 0) ?? [];
  const problem = weights.length === 0 ? 'has no weights in safetensors or PyTorch files' : configProblem(config, file);
  return {
    name,
    path,
    origin,
    type: typeof type === 'string' ? type : 'unknown',
    weightBytes: weights.reduce((sum, entry) => sum + fileBytes(join(path, entry)), 0),
    ...(problem !== undefined && { problem }),
  };
}

function configProblem(config: unknown, file: string): string | undefined {
  try {
    buildModel(config, file);
    return undefined;
  } catch (error) {
    return describeError(error);
  }
}

/** The snapshot that `main` points to, else any. */
function currentSnapshot(repository: string): string | undefined {
  const snapshots = list(join(repository, 'snapshots'));
  const main = readText(join(repository, 'refs', 'main'))?.trim();
  const chosen = main !== undefined && snapshots.includes(main) ? main : snapshots.at(-1);
  return chosen === undefined ? undefined : join(repository, 'snapshots', chosen);
}

function readText(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

function fileBytes(file: string): number {
  try {
    return statSync(file).size;
  } catch {
    return 0;
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
