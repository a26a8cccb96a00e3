/**
 * Rotary position embeddings as configurations describe them, in both forms: `rope_theta` with `rope_scaling`, and `rope_parameters`.
 * Source: `modeling_rope_utils.py` of transformers.
 */
import { type ConfigReader, LIMITS } from './config.ts';

export interface Rope {
  /** Unique in the model. */
  readonly name: string;
  /** Columns of a head that are rotated, its first ones. */
  readonly rotaryDims: number;
  /** [rotaryDims / 2]: the angle of pair i at position p is p / divisors[i]. */
  readonly divisors: readonly number[];
  /** Multiplies what is rotated. */
  readonly factor: number;
  /** Base of the frequencies. */
  readonly theta: number;
  /** What was done to plain divisors. */
  readonly scaling?: RopeScaling;
  /** Other divisors, for all positions of sequences that are longer than the original context. */
  readonly long?: { readonly divisors: readonly number[]; readonly originalContext: number };
}

/** Kinds of scaling that GGUF files know. */
export type RopeScaling =
  | { readonly type: 'linear'; readonly factor: number }
  | { readonly type: 'factors'; readonly factors: readonly number[] }
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalContext: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Multiplies what is rotated. */
      readonly attention: number;
    }
  | {
      readonly type: 'longrope';
      readonly short: readonly number[];
      readonly long: readonly number[];
      readonly originalContext: number;
      readonly attention: number;
    };

export interface RopeDefaults {
  readonly headDim: number;
  readonly contextLength: number;
  /** Base of the frequencies where the configuration has none. */
  readonly theta: number;
}

/** What a kind of scaling starts from. */
interface Plain {
  readonly parameters: ConfigReader;
  readonly theta: number;
  readonly divisors: readonly number[];
  readonly contextLength: number;
  /** Of the model before its context was extended. */
  readonly originalContext: number;
}

type Scaling = (plain: Plain) => Partial<Pick<Rope, 'divisors' | 'factor' | 'long' | 'scaling'>>;

/** `dynamic` is not here: its frequencies change as a sequence grows, and the cache holds keys that were rotated with earlier ones. */
const SCALINGS = {
  default: () => ({}),
  linear,
  factors,
  llama3,
  yarn,
  longrope,
  /** Early Phi-3 files. */
  su: longrope,
} as const satisfies Readonly<Record<string, Scaling>>;
const KINDS = Object.keys(SCALINGS) as (keyof typeof SCALINGS)[];

/** The one rope of a model. @throws {FormatError} for a kind that is not known, listing those that are, or a parameter out of range */
export function readRope(reader: ConfigReader, defaults: RopeDefaults): Rope {
  const parameters = reader.object('rope_parameters') ?? reader.object('rope_scaling');
  return makeRope('rope', reader, parameters, { ...defaults, theta: reader.positive('rope_theta', defaults.theta) });
}

/** One of several ropes, from the object that describes it; none means no scaling. @throws {FormatError} as `readRope` */
export function makeRope(
  name: string,
  reader: ConfigReader,
  parameters: ConfigReader | undefined,
  { headDim, contextLength, theta: defaultTheta }: RopeDefaults,
): Rope {
  const rotaryDims = readRotaryDims(reader, parameters, headDim);
  const theta = parameters?.positive('rope_theta', defaultTheta) ?? defaultTheta;
  const divisors = Array.from({ length: rotaryDims / 2 }, (_, i) => theta ** ((2 * i) / rotaryDims));
  const plain: Rope = { name, rotaryDims, divisors, factor: 1, theta };
  if (!parameters) return plain;
  const kind = parameters.oneOf('rope_type', KINDS, parameters.oneOf('type', KINDS, 'default'));
  const context = { max: LIMITS.contextLength, fallback: contextLength };
  const fallback = reader.count('original_max_position_embeddings', context);
  const originalContext = parameters.count('original_max_position_embeddings', { ...context, fallback });
  return { ...plain, ...SCALINGS[kind]({ parameters, theta, divisors, contextLength, originalContext }) };
}

/** A share that was worked out as dims / headDim may give a little less than dims. */
const ROUNDING = 1e-6;

function readRotaryDims(reader: ConfigReader, parameters: ConfigReader | undefined, headDim: number): number {
  const key = 'partial_rotary_factor';
  const share = parameters?.optionalPositive(key, undefined) ?? reader.positive(key, 1);
  const dims = Math.trunc(headDim * share + ROUNDING);
  return dims >= 2 && dims % 2 === 0 && dims <= headDim ? dims : reader.fail(key, `an even number of the ${headDim} columns of a head`);
}

/** Position interpolation. Source: Chen et al. 2023, arXiv:2306.15595. */
function linear({ parameters, divisors }: Plain): ReturnType<Scaling> {
  const factor = readFactor(parameters);
  return { divisors: divisors.map((divisor) => divisor * factor), scaling: { type: 'linear', factor } };
}

/** As GGUF files have the scaling of Llama 3: worked out. */
function factors({ parameters, divisors }: Plain): ReturnType<Scaling> {
  return scaledBy(divisors, parameters.positives('factors', divisors.length));
}

function scaledBy(divisors: readonly number[], list: readonly number[]): ReturnType<Scaling> {
  return { divisors: divisors.map((divisor, i) => divisor * list[i]!), scaling: { type: 'factors', factors: list } };
}

/** Long waves are stretched, short ones are kept, those between are blended. */
function llama3({ parameters, divisors, originalContext }: Plain): ReturnType<Scaling> {
  const factor = readFactor(parameters);
  const low = parameters.positive('low_freq_factor', 1);
  const high = parameters.positive('high_freq_factor', 4);
  if (high <= low) parameters.fail('high_freq_factor', `more than low_freq_factor ${low}`);
  const list = divisors.map((divisor) => {
    const turns = originalContext / (2 * Math.PI * divisor); // in the original context
    const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return 1 / ((1 - kept) / factor + kept);
  });
  return scaledBy(divisors, list);
}

/** Source: Peng et al. 2023, arXiv:2309.00071. */
function yarn({ parameters, theta, divisors, contextLength, originalContext }: Plain): ReturnType<Scaling> {
  const factor = parameters.positive('factor', contextLength / originalContext);
  const columns = 2 * divisors.length;
  /** The pair, as a real number, that turns this often in the original context. */
  const pairOf = (turns: number): number => (columns * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [betaFast, betaSlow] = [parameters.positive('beta_fast', 32), parameters.positive('beta_slow', 1)];
  const [fast, slow] = [pairOf(betaFast), pairOf(betaSlow)];
  const truncate = parameters.flag('truncate', true);
  const first = Math.max(0, truncate ? Math.floor(fast) : fast);
  const last = Math.min(columns - 1, truncate ? Math.ceil(slow) : slow);
  const span = last === first ? 0.001 : last - first;
  const attention = parameters.positive('attention_factor', yarnFactor(parameters, factor));
  return {
    factor: attention,
    scaling: { type: 'yarn', factor, originalContext, betaFast, betaSlow, attention },
    divisors: divisors.map((divisor, pair) => {
      const stretched = Math.min(1, Math.max(0, (pair - first) / span));
      return divisor / (stretched / factor + 1 - stretched);
    }),
  };
}

function yarnFactor(parameters: ConfigReader, factor: number): number {
  const growth = (scale: number): number => (factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1);
  const [scale, scaleOfAll] = [parameters.optionalPositive('mscale', undefined), parameters.optionalPositive('mscale_all_dim', undefined)];
  return scale && scaleOfAll ? growth(scale) / growth(scaleOfAll) : growth(1);
}

/**
 * With one token more than the original context, other divisors count for all positions, those in the cache included.
 * Source: Ding et al. 2024, arXiv:2402.13753.
 */
function longrope({ parameters, divisors, contextLength, originalContext }: Plain): ReturnType<Scaling> {
  const shares = parameters.positives('short_factor', divisors.length);
  const growth = contextLength / originalContext;
  const factor = growth <= 1 ? 1 : Math.sqrt(1 + Math.log(growth) / Math.log(originalContext));
  const attention = parameters.positive('attention_factor', factor);
  const long = parameters.positives('long_factor', divisors.length);
  return {
    divisors: divisors.map((divisor, i) => divisor * shares[i]!),
    factor: attention,
    scaling: { type: 'longrope', short: shares, long, originalContext, attention },
    ...(contextLength > originalContext && { long: { divisors: divisors.map((divisor, i) => divisor * long[i]!), originalContext } }),
  };
}

function readFactor(parameters: ConfigReader): number {
  return parameters.optionalPositive('factor', undefined) ?? parameters.fail('factor', 'a number above 0');
}
