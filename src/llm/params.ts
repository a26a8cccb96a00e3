import type { GenerationParams } from '../requests.ts';
import { checkSamplingParams } from '../sampling/check-params.ts';
import type { SamplingParams } from '../sampling/params.ts';
import { RequestError } from '../util/errors.ts';

/** What holds when neither the request, nor the caller of `load`, nor the model says anything. */
export const DEFAULT_PARAMS = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
  maxTokens: 256,
  stop: [],
  stopTokenIds: [],
  ignoreEos: false,
} as const;

/** More than anybody needs, few enough to search for after every token. */
export const MAX_STOPS = 16;

export interface ResolvedParams {
  readonly sampling: SamplingParams;
  readonly stop: readonly string[];
}

/** Completes a request's parameters: its own win over `defaults`, these over DEFAULT_PARAMS. @throws {RequestError} */
export function resolveParams(params: GenerationParams, defaults: GenerationParams): ResolvedParams {
  const { stop, ...sampling } = { ...DEFAULT_PARAMS, ...withoutUndefined(defaults), ...withoutUndefined(params) };
  checkSamplingParams(sampling);
  if (!Array.isArray(stop)) throw new RequestError(`stop: a list of strings expected, got ${JSON.stringify(stop)}`);
  if (stop.length > MAX_STOPS) throw new RequestError(`stop: at most ${MAX_STOPS} strings expected, got ${stop.length}`);
  const wrong = stop.find((text) => typeof text !== 'string' || text === '');
  if (wrong !== undefined) throw new RequestError(`stop: strings that are not empty expected, got ${JSON.stringify(wrong)}`);
  return { sampling, stop };
}

/** Parameters that a model folder's `generation_config.json` recommends. Sampling settings count only where it says `do_sample`, a repetition penalty always, as in Hugging Face transformers. */
export function recommendedParams(config: Readonly<Record<string, unknown>> | undefined): GenerationParams {
  if (!config) return {};
  const { max_new_tokens: maxTokens, do_sample: sampled, temperature, top_k: topK, top_p: topP, min_p: minP } = config;
  const { repetition_penalty: repetitionPenalty } = config;
  return {
    ...(isCount(maxTokens) && { maxTokens }),
    ...(typeof repetitionPenalty === 'number' && { repetitionPenalty }),
    ...(sampled === true && {
      temperature: typeof temperature === 'number' ? temperature : 1,
      ...(isCount(topK) && { topK }),
      ...(typeof topP === 'number' && { topP }),
      ...(typeof minP === 'number' && { minP }),
    }),
  };
}

/** End-of-sequence ids of a `generation_config.json`, a number or a list. */
export function recommendedStopIds(config: Readonly<Record<string, unknown>> | undefined): number[] {
  return [config?.['eos_token_id']].flat().filter((id): id is number => typeof id === 'number' && Number.isInteger(id));
}

const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isInteger(value) && value > 0;

function withoutUndefined(params: GenerationParams): GenerationParams {
  return Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined));
}
