/** Model folders with exact values from another implementation, and comparisons with them. */
import { readFileSync } from 'node:fs';
import { cp, copyFile, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect } from 'vitest';
import type { GenerationParams, GenerationRequest, GenerationResult } from '../../src/requests.ts';
import type { PositionLogprobs } from '../../src/sampling/params.ts';

/** See test/fixtures/README.md. One entry a prompt. */
export interface Golden {
  readonly prompts: readonly (readonly number[])[];
  readonly greedy: readonly (readonly number[])[];
  readonly greedy_logprobs: readonly (readonly number[])[];
  readonly prompt_logprobs: readonly (readonly (number | null)[])[];
  readonly texts?: readonly { readonly prompt: number; readonly text: string; readonly completion: string }[];
}

export const FIXTURE_MODELS = [
  'opt',
  'opt-350m-style',
  'galactica',
  'opt-bin',
  'opt-bin-old',
  'llama',
  'llama3',
  'llama-linear',
  'llama-yarn',
  'llama-bf16-sharded',
  'mistral',
  'mixtral',
  'qwen2',
  'qwen3',
  'qwen2_moe',
  'qwen3_moe',
  'gemma',
  'gemma2',
  'gemma3',
  'phi3',
  'phi3-longrope',
] as const;
export type FixtureModel = (typeof FIXTURE_MODELS)[number];

/** Float32 against float64 and the rounding of the file are 8e-5. Absolute: values reach -40. */
export const LOGPROB_TOLERANCE = 3e-4;

/** The goldens go on past the end-of-sequence token. */
export const GOLDEN_PARAMS: GenerationParams = { maxTokens: 24, ignoreEos: true, logprobs: 0, promptLogprobs: 0 };

const fixtures = path.join(import.meta.dirname, '../fixtures');

export const fixtureFolder = (model: FixtureModel): string => path.join(fixtures, 'models', model);

export function readGolden(model: FixtureModel): Golden {
  return readFixtureJson(`models/${model}/golden.json`) as Golden;
}

export function readFixtureJson(file: string): unknown {
  return JSON.parse(readFileSync(path.join(fixtures, file), 'utf8'));
}

/** The fixture with some keys of its configuration changed, copied into `folder`. */
export async function copyFixture(model: FixtureModel, folder: string, changes: Readonly<Record<string, unknown>>): Promise<string> {
  const copy = path.join(folder, model);
  await cp(fixtureFolder(model), copy, { recursive: true });
  const config = readFixtureJson(`models/${model}/config.json`) as object;
  await writeFile(path.join(copy, 'config.json'), JSON.stringify({ ...config, ...changes }));
  return copy;
}

/** The fixture with its configuration in the form of transformers 5, copied to `folder`. */
export async function copyWithNewConfig(model: FixtureModel, folder: string): Promise<string> {
  await cp(fixtureFolder(model), folder, { recursive: true });
  await copyFile(path.join(folder, 'config.v5.json'), path.join(folder, 'config.json'));
  return folder;
}

/** The fixture as the text part of a model that also sees images, in the layout that such models are published in. */
export async function copyAsTextPart(model: FixtureModel, folder: string, type: string): Promise<string> {
  await cp(fixtureFolder(model), folder, { recursive: true });
  const text = readFixtureJson(`models/${model}/config.json`) as { bos_token_id: number; eos_token_id: number };
  const { bos_token_id, eos_token_id, ...rest } = text;
  await writeFile(path.join(folder, 'config.json'), JSON.stringify({ model_type: type, bos_token_id, eos_token_id, text_config: rest }));
  const bytes = await readFile(path.join(folder, 'model.safetensors'));
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const names = JSON.parse(bytes.toString('utf8', 8, end)) as Record<string, unknown>;
  const renamed = Object.entries(names).map(([name, entry]) => [name.replace(/^model\./, 'language_model.model.'), entry]);
  const header = Buffer.from(JSON.stringify(Object.fromEntries(renamed)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  await writeFile(path.join(folder, 'model.safetensors'), Buffer.concat([length, header, bytes.subarray(end)]));
  return folder;
}

export function goldenRequests({ prompts }: Pick<Golden, 'prompts'>, params: GenerationParams = GOLDEN_PARAMS): GenerationRequest[] {
  return prompts.map((prompt) => ({ prompt, params }));
}

/** Ids must be equal. @returns the largest error of a log-probability, which must be within the tolerance */
export function expectGolden(result: GenerationResult, golden: Golden, prompt: number, tolerance: number = LOGPROB_TOLERANCE): number {
  expect(result.tokenIds, `greedy ids of prompt ${prompt}`).toEqual(golden.greedy[prompt]);
  expect(result.promptTokenIds).toEqual(golden.prompts[prompt]);
  const errors = [
    ...logprobErrors(result.logprobs, golden.greedy_logprobs[prompt]!),
    ...logprobErrors(result.promptLogprobs, golden.prompt_logprobs[prompt]!),
  ];
  const largest = Math.max(0, ...errors);
  expect(largest, `log-probabilities of prompt ${prompt}`).toBeLessThanOrEqual(tolerance);
  return largest;
}

function logprobErrors(got: readonly (PositionLogprobs | null)[] | undefined, wanted: readonly (number | null)[]): number[] {
  expect(got).toHaveLength(wanted.length);
  return wanted.map((value, i) => {
    if (value === null) {
      expect(got![i]).toBeNull();
      return 0;
    }
    const error = Math.abs(got![i]!.logprob - value);
    return Number.isNaN(error) ? Infinity : error;
  });
}
