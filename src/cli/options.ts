import { InvalidArgumentError, Option, type Command } from 'commander';
import type { DeviceName } from '../llm/device.ts';
import type { GenerationParams } from '../requests.ts';
import { CONVERT_MODES, type ConvertMode, STORAGE_TYPES, type StorageType } from '../weights/storage-type.ts';
import { MAX_PENALTY, MAX_REPETITION_PENALTY, MAX_TEMPERATURE } from '../sampling/check-params.ts';
import { KV_TYPES, type KvType } from '../tensor/dtype.ts';
import { MAX_TOP_LOGPROBS } from '../sampling/logprobs.ts';
import { unescapeText } from './escapes.ts';

/** How a model computes. */
export interface ComputeOptions {
  readonly device: DeviceName;
  readonly compute: 'auto' | 'f32';
  readonly kvType: 'auto' | KvType;
  readonly attnSparsity?: number;
  readonly gpuBatchSize?: number;
  readonly numGpuBatches?: number;
  readonly threads?: number;
  readonly sharePrefixes?: boolean;
  /** Bytes. */
  readonly mem?: number;
  /** Bytes. */
  readonly vram?: number;
  readonly gpus?: number;
  readonly percent?: readonly number[];
  readonly offloadDir?: string;
  /** Bytes. */
  readonly disk?: number;
  readonly overlap?: 'on' | 'off';
  readonly checksums?: boolean;
}

/** Which model, and how it computes. */
export interface ModelOptions extends ComputeOptions {
  readonly model?: string;
  readonly dummy?: boolean;
  readonly dtype?: StorageType;
  readonly convert?: ConvertMode;
  readonly trace?: string;
  /** File with the plan that runs. */
  readonly plan?: string;
  /** File that gains the plan that runs. */
  readonly planOut?: string;
}

/** How completions are sampled; what is missing is left to the model's own defaults. */
export interface SamplingOptions {
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly minP?: number;
  readonly repetitionPenalty?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly ignoreEos?: boolean;
  readonly logprobs?: number;
}

export interface ReportOptions {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Without the slow reference, which is for tests. */
export const DEVICES: readonly DeviceName[] = ['cpu', 'gpu', 'auto', 'cuda', 'metal', 'vulkan'];

/** Beyond any model or machine; a larger number is a slip of the keyboard. */
export const MAX_COUNT = 2 ** 31 - 1;
/** Threads of the largest machines. */
export const MAX_THREADS = 1024;

export function addModelOptions(command: Command): Command {
  command
    .optionsGroup('Model:')
    .option(
      '-m, --model <name>',
      'name on the Hugging Face hub, GGUF file, or folder of a model (default: the bundled tidy-opt-5m)',
      notEmpty,
    )
    .addOption(dtypeOption())
    .addOption(
      new Option('--convert <when>', 'write a converted model to the cache: auto does from 1 GiB on')
        .choices(CONVERT_MODES)
        .default('auto'),
    )
    .option('--dummy', 'random weights: MODEL names a known shape, such as opt-125m, and needs no files');
  return addPlanOptions(addComputeOptions(command));
}

/** What is known and recorded of a run. */
export function addPlanOptions(command: Command): Command {
  return command
    .option('--trace <file>', 'record what each lane did, for `flexllmgen trace`', notEmpty)
    .option('--plan <file>', 'run with the plan in FILE, which --plan-out wrote', notEmpty)
    .option('--plan-out <file>', 'write what runs and what memory it takes to FILE, as JSON', notEmpty);
}

/** Type of the weights. */
export function dtypeOption(): Option {
  return new Option('--dtype <type>', 'type of the weights; auto keeps the stored one').choices(STORAGE_TYPES).default('auto');
}

export function addComputeOptions(command: Command): Command {
  command
    .optionsGroup('Computation:')
    .addOption(
      new Option(
        '--device <name>',
        'what computes: gpu is the first that works, auto that or the cpu; `flexllmgen doctor` shows what there is',
      )
        .choices(DEVICES)
        .default('cpu'),
    );
  return addTypeOptions(command)
    .addOption(sparsityOption())
    .option('--gpu-batch-size <n>', 'rows computed together (default: 64)', integer(1, MAX_COUNT))
    .option(
      '--num-gpu-batches <n>',
      'such batches in flight (default: 1, or what fits where weights pass through memory)',
      integer(1, MAX_COUNT),
    )
    .option('--mem <size>', 'memory that the whole program may use, such as 4GiB or 500MB (default: what is free)', size)
    .option('--vram <size>', 'memory of each GPU that may be used (default: what is free, less a reserve)', size)
    .option('--gpus <n>', 'GPUs that share the layers (default: all that the device has)', integer(1, MAX_COUNT))
    .option(
      '--percent <n...>',
      'six numbers: percent of weights, cache and hidden states on GPU and in RAM, the rest on disk (default: what fits)',
      percents,
    )
    .option('--offload-dir <folder>', 'for what --percent puts on disk beside the weights (default: the cache folder)', notEmpty)
    .option('--disk <size>', 'disk that may be used there (default: what is free, less a tenth)', size)
    .addOption(
      new Option('--overlap <mode>', 'read weights while others compute; off shows what that brings (default: on)').choices(['on', 'off']),
    )
    .option('--no-checksums', 'do not compare the weights of a converted file with their checksums when they are first read')
    .option('--threads <n>', 'compute threads (default, and at most: one per core that may be used)', integer(1, MAX_THREADS))
    .option('--no-share-prefixes', 'compute every prompt from its first token on, for comparison');
}

export function sparsityOption(): Option {
  return new Option(
    '--attn-sparsity <p>',
    'share of the positions before it whose values a generated token uses; below 1 answers differ (default: 1)',
  ).argParser(decimal(0, 1, 'exclusive'));
}

/** Of arithmetic and cache. */
export function addTypeOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--compute <type>', 'f32 is exact; auto is as fast as the weights allow').choices(['auto', 'f32']).default('auto'),
    )
    .addOption(
      new Option('--kv-type <type>', 'how keys and values are kept; g4: 4 bits with a minimum for 64 values')
        .choices(['auto', ...KV_TYPES])
        .default('auto'),
    );
}

export function addSamplingOptions(command: Command): Command {
  return command
    .optionsGroup('Sampling:')
    .option('--max-tokens <n>', "most tokens of an answer (default: the model's own, else 256)", integer(1, MAX_COUNT))
    .option('--temperature <t>', '0 is greedy (default: 0)', decimal(0, MAX_TEMPERATURE))
    .option('--top-k <k>', 'sample from the k most probable tokens, 0 from all (default: 0)', integer(0, MAX_COUNT))
    .option('--top-p <p>', 'sample from the most probable tokens that sum to p (default: 1)', decimal(0, 1, 'exclusive'))
    .option('--min-p <p>', 'of those, from tokens at least p times as probable as the best (default: 0)', decimal(0, 1))
    .option(
      '--repetition-penalty <r>',
      'divides the logits of tokens of prompt and answer, multiplies negative ones (default: 1)',
      decimal(0, MAX_REPETITION_PENALTY, 'exclusive'),
    )
    .option('--presence-penalty <x>', 'less of logits whose token the answer has (default: 0)', decimal(-MAX_PENALTY, MAX_PENALTY))
    .option('--frequency-penalty <x>', 'less of such logits for each time (default: 0)', decimal(-MAX_PENALTY, MAX_PENALTY))
    .option('--seed <s>', 'the same seed gives the same answers (default: 0)', integer(0, 2 ** 32 - 1))
    .option('--stop <text>', 'an answer ends before this text; may be repeated; \\n and \\t are understood', stopText)
    .option('--ignore-eos', 'go on after the end-of-sequence token')
    .option('--logprobs <n>', `log-probabilities of the answer's tokens, with n alternatives`, integer(0, MAX_TOP_LOGPROBS));
}

/** The sampling flags that were given, and no others. */
export function generationParams(options: SamplingOptions): GenerationParams {
  const { maxTokens, temperature, topK, topP, minP, seed, stop, ignoreEos, logprobs } = options;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = options;
  return {
    ...(maxTokens !== undefined && { maxTokens }),
    ...(temperature !== undefined && { temperature }),
    ...(topK !== undefined && { topK }),
    ...(topP !== undefined && { topP }),
    ...(minP !== undefined && { minP }),
    ...(repetitionPenalty !== undefined && { repetitionPenalty }),
    ...(presencePenalty !== undefined && { presencePenalty }),
    ...(frequencyPenalty !== undefined && { frequencyPenalty }),
    ...(seed !== undefined && { seed }),
    ...(stop !== undefined && { stop }),
    ...(ignoreEos !== undefined && { ignoreEos }),
    ...(logprobs !== undefined && { logprobs }),
  };
}

/** Parser of a flag that takes any text but none. */
export function notEmpty(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected at least one character.');
  return text;
}

/** Parser of a flag that takes an integer in [least, most]. */
export function integer(least: number, most: number): (text: string) => number {
  const interval = most === MAX_COUNT ? `an integer, ${least} or more` : `an integer from ${least} to ${most}`;
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`Expected ${interval}.`);
  };
}

/** Parser of a flag that takes a number in [least, most], or in (least, most]. */
export function decimal(least: number, most: number, start: 'inclusive' | 'exclusive' = 'inclusive'): (text: string) => number {
  const exclusive = start === 'exclusive';
  return (text) => {
    const value = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : NaN;
    if (value <= most && (exclusive ? value > least : value >= least)) return value;
    throw new InvalidArgumentError(`Expected a number in ${exclusive ? '(' : '['}${least}, ${most}].`);
  };
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** Parser of a number of bytes. */
export function size(text: string): number {
  const [, number, unit] = /^(\d+(?:\.\d+)?) ?([KMGT]?i?B)?$/i.exec(text) ?? [];
  const bytes = Math.floor(Number(number) * (UNITS[(unit ?? '').toUpperCase()] ?? NaN));
  if (Number.isSafeInteger(bytes) && bytes > 0) return bytes;
  throw new InvalidArgumentError('Expected a number of bytes, such as 4GiB, 500MB or 2000000000.');
}

/** Parser of one of the numbers of --percent. */
export function percents(text: string, previous: readonly number[] = []): readonly number[] {
  return [...previous, integer(0, 100)(text)];
}

function stopText(text: string, previous: readonly string[] = []): readonly string[] {
  return [...previous, unescapeText(notEmpty(text))];
}

/** The end of a command's help. */
export function examples(first: string, second: string, note?: string): string {
  return `\nExamples:\n  $ ${first}\n  $ ${second}${note === undefined ? '' : `\n\n${note}`}`;
}
