/** Flags of `flexllmgen bench-opt`: those of FlexGen's `flex_opt`, so that published command lines run, and some of ours. */
import { InvalidArgumentError, Option, type Command } from 'commander';
import type { DeviceName } from '../llm/device.ts';
import { addPlanOptions, DEVICES, examples, integer, MAX_COUNT, MAX_THREADS, notEmpty, percents, size, sparsityOption } from './options.ts';

export interface BenchOptions {
  readonly model: string;
  readonly path: string;
  readonly offloadDir?: string;
  readonly promptLen: number;
  readonly genLen: number;
  readonly cutGenLen?: number;
  readonly debugMode?: 'fewer_batch' | 'breakdown';
  readonly gpuBatchSize?: number;
  readonly numGpuBatches?: number;
  readonly percent?: readonly number[];
  readonly sepLayer?: boolean;
  readonly pinWeight?: boolean;
  readonly cpuCacheCompute?: boolean;
  readonly attnSparsity?: number;
  readonly compressWeight?: boolean;
  readonly compressCache?: boolean;
  readonly logFile: string;
  /** False with --no-log. */
  readonly log: boolean;
  readonly verbose: number;
  readonly overlap?: boolean;
  readonly device: DeviceName;
  /** Bytes. */
  readonly mem?: number;
  readonly vram?: number;
  readonly gpus?: number;
  /** Bytes. */
  readonly disk?: number;
  readonly threads?: number;
  readonly trace?: string;
  readonly plan?: string;
  readonly planOut?: string;
  readonly json?: boolean;
}

/** What holds without the flags, and without a plan that says otherwise. */
export const BENCH_DEFAULTS = { gpuBatchSize: 4, numGpuBatches: 1, percent: [100, 0, 100, 0, 100, 0] } as const;

export const BENCH_COMMAND = 'bench-opt';

export function addBenchOpt(program: Command): Command {
  const command = program
    .command(BENCH_COMMAND)
    .summary("FlexGen's benchmark, with its flags")
    .description(
      "Times the generation of rows of equal length, and appends the lines of FlexGen's benchmark to a log. Its published command lines run; " +
        'flags may be shortened as long as they are clear.',
    );
  addWorkload(command);
  addPolicy(command);
  return addBenchReport(command).addHelpText(
    'after',
    examples(
      'flexllmgen bench-opt --model facebook/opt-1.3b --path _DUMMY_ --percent 0 50 0 100 0 100 --gpu-batch-size 8',
      'flexllmgen bench-opt --model facebook/opt-125m --prompt-len 256 --gen-len 32 --cut-gen-len 8 --json',
    ),
  );
}

function addWorkload(command: Command): void {
  command
    .optionsGroup('Workload:')
    .option('--model <name>', 'such as facebook/opt-30b; in PATH, the part behind / is the name', notEmpty, 'facebook/opt-6.7b')
    .option('--path <path>', 'a model, or a folder of models; with _DUMMY_ in it: random weights', notEmpty, '~/opt_weights')
    .option('--offload-dir <folder>', 'for what --percent puts on disk; weights are read from where they are', notEmpty)
    .option('--prompt-len <n>', 'tokens of each prompt', integer(1, MAX_COUNT), 512)
    .option('--gen-len <n>', 'tokens to generate for each prompt', integer(1, MAX_COUNT), 32)
    .option('--cut-gen-len <n>', 'run only so many of them and project the others', integer(2, MAX_COUNT))
    .addOption(new Option('--debug-mode <mode>', 'accepted: everything is run').choices(['fewer_batch', 'breakdown']))
    .option('--gpu-batch-size <n>', 'rows computed together (default: 4)', integer(1, MAX_COUNT))
    .option('--num-gpu-batches <n>', 'such batches in flight (default: 1)', integer(1, MAX_COUNT));
}

function addPolicy(command: Command): void {
  command
    .optionsGroup('Policy:')
    .option('--percent <n...>', 'percent of weights, cache and hidden states on GPU and in RAM (default: 100 0 100 0 100 0)', percents)
    .option('--sep-layer [bool]', 'accepted: attention and MLP move together', flag)
    .option('--pin-weight [bool]', 'accepted: RAM beside a GPU is page-locked where the driver does it', flag)
    .option('--cpu-cache-compute [bool]', 'accepted: attention is computed where the cache is', flag)
    .addOption(sparsityOption())
    .option('--compress-weight [bool]', 'weights in 4 bits (--dtype q4 of other commands)', flag)
    .option('--compress-cache [bool]', 'cache in 4 bits (--kv-type g4 of other commands)', flag)
    .option('--overlap [bool]', 'read weights while others compute (default: true)', flag);
}

function addBenchReport(command: Command): Command {
  command
    .optionsGroup('Machine:')
    .addOption(new Option('--device <name>', 'what computes').choices(DEVICES).default('cpu'))
    .option('--mem <size>', 'memory that the whole program may use, such as 4GiB or 500MB (default: what is free)', size)
    .option('--disk <size>', 'disk that may be used beside the weights (default: what is free, less a tenth)', size)
    .option('--vram <size>', 'memory of each GPU that may be used (default: what is free, less a reserve)', size)
    .option('--gpus <n>', 'GPUs that share the layers (default: all that the device has)', integer(1, MAX_COUNT))
    .option('--threads <n>', 'compute threads (default, and at most: one per core that may be used)', integer(1, MAX_THREADS));
  return addPlanOptions(command)
    .optionsGroup('Report:')
    .option('--log-file <file>', 'gains five lines; auto makes a name of the flags, in the working directory', notEmpty, 'auto')
    .option('--no-log', 'write no log')
    .option('--verbose <n>', '0: no summary, 2: also the first and the last text', integer(0, MAX_COUNT), 2)
    .option('--json', 'the results as one line of JSON on standard output');
}

/** Parser of a flag that is true without a value. */
function flag(text: string): boolean {
  const word = text.toLowerCase();
  if (['yes', 'true', 't', 'y', '1'].includes(word)) return true;
  if (['no', 'false', 'f', 'n', '0'].includes(word)) return false;
  throw new InvalidArgumentError('Expected yes, true, t, y or 1, or no, false, f, n or 0.');
}
