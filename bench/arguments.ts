import { parseArgs } from 'node:util';
import { PUBLISHED_OPT_NAMES, publishedConfig } from '../src/models/opt-sizes.ts';
import { BUNDLED_NAME } from '../src/util/bundled.ts';
import { KV_TYPES } from '../src/tensor/dtype.ts';
import { UsageError } from '../src/util/errors.ts';
import { STORAGE_TYPES, type StorageType } from '../src/weights/storage-type.ts';
import { ACCURACY_TYPES } from './accuracy-cases.ts';
import type { BenchOptions } from './figure.ts';
import { GEMM_TYPES } from './gemm.ts';
import { isPeerShape, isShape, PEER_SHAPE_NAMES, SHAPE_NAMES } from './shapes.ts';

export interface BenchArguments {
  readonly name: string;
  readonly json: boolean;
  readonly options: BenchOptions;
}

/** Checks everything, for a slip that shows itself after minutes of measuring costs these minutes. @throws {UsageError} */
export function parseBenchArguments(args: readonly string[], names: readonly string[]): BenchArguments {
  const { values, positionals } = parse(args);
  const [name = '', ...surplus] = positionals;
  if (!names.includes(name)) throw new UsageError(`${name || 'no name'}: there is no such benchmark`);
  if (surplus.length > 0) throw new UsageError(`${surplus.join(' ')}: one benchmark at a time`);
  for (const model of values.model ?? []) checkModel(name, model);
  const types = typesOf(name);
  for (const type of values.type ?? [])
    if (!types.includes(type)) throw new UsageError(`--type ${type}: one of ${types.join(', ')} expected`);
  const options: BenchOptions = {
    rounds: positiveInteger('--rounds', values.rounds),
    ...(values.model && { models: values.model }),
    ...(values.type && { types: values.type }),
    ...(values.dtype !== undefined && { dtype: storageType(values.dtype) }),
    ...(values.block && { blocks: values.block.map((text) => positiveInteger('--block', text)) }),
  };
  return { name, json: values.json, options };
}

/** What `--type` may be. */
function typesOf(bench: string): readonly string[] {
  if (bench === 'gemm') return GEMM_TYPES;
  return bench === 'attention' ? KV_TYPES : ACCURACY_TYPES;
}

/** Only some benchmarks take files, and only those that make files know shapes that are not OPT's. */
function checkModel(bench: string, model: string): void {
  const expect = (known: boolean, kinds: string, names: readonly string[]): void => {
    if (!known) throw new UsageError(`--model ${model}: ${kinds} expected; known are ${names.join(', ')}`);
  };
  const isFile = model.endsWith('.gguf');
  if (bench === 'peers') return expect(isFile || isPeerShape(model), 'a GGUF file or a shape that llama.cpp runs', PEER_SHAPE_NAMES);
  if (bench === 'model') return expect(isFile || isShape(model), 'a GGUF file or a published shape', SHAPE_NAMES);
  if (bench === 'loading' || bench === 'offload') return expect(isShape(model), 'a published shape', SHAPE_NAMES);
  const known = model === BUNDLED_NAME || publishedConfig(model) !== undefined;
  expect(known, `${BUNDLED_NAME} or a published shape`, PUBLISHED_OPT_NAMES);
}

// oxlint-disable-next-line typescript/explicit-function-return-type -- what parseArgs infers from its options
function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        json: { type: 'boolean', default: false },
        rounds: { type: 'string', default: '3' },
        model: { type: 'string', multiple: true },
        block: { type: 'string', multiple: true },
        dtype: { type: 'string' },
        type: { type: 'string', multiple: true },
      },
    });
  } catch (cause) {
    throw new UsageError(cause instanceof Error ? cause.message : String(cause), {}, { cause });
  }
}

function storageType(text: string): StorageType {
  const type = STORAGE_TYPES.find((name) => name === text);
  if (type) return type;
  throw new UsageError(`--dtype ${text}: one of ${STORAGE_TYPES.join(', ')} expected`);
}

function positiveInteger(flag: string, text: string): number {
  const value = /^\d+$/.test(text) ? Number(text) : NaN;
  if (Number.isSafeInteger(value) && value > 0) return value;
  throw new UsageError(`${flag} ${text}: a positive integer expected`);
}
