import { parseArgs } from 'node:util';
import { PUBLISHED_OPT_NAMES, publishedConfig } from '../src/models/opt-sizes.ts';
import { BUNDLED_NAME } from '../src/util/bundled.ts';
import { UsageError } from '../src/util/errors.ts';
import { STORAGE_TYPES, type StorageType } from '../src/weights/storage-type.ts';
import { ACCURACY_TYPES } from './accuracy-cases.ts';
import type { BenchOptions } from './figure.ts';

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
  for (const model of values.model ?? []) {
    if (model === BUNDLED_NAME || publishedConfig(model) || (name === 'model' && model.endsWith('.gguf'))) continue;
    throw new UsageError(`--model ${model}: neither ${BUNDLED_NAME} nor a published shape; known are ${PUBLISHED_OPT_NAMES.join(', ')}`);
  }
  for (const type of values.type ?? [])
    if (!ACCURACY_TYPES.includes(type)) throw new UsageError(`--type ${type}: one of ${ACCURACY_TYPES.join(', ')} expected`);
  const options: BenchOptions = {
    rounds: positiveInteger('--rounds', values.rounds),
    ...(values.model && { models: values.model }),
    ...(values.type && { types: values.type }),
    ...(values.dtype !== undefined && { dtype: storageType(values.dtype) }),
    ...(values.block && { blocks: values.block.map((text) => positiveInteger('--block', text)) }),
  };
  return { name, json: values.json, options };
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
