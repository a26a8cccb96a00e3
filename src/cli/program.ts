import { Command, CommanderError, Option } from 'commander';
import { addBenchOpt, BENCH_COMMAND, type BenchOptions } from './bench-options.ts';
import { unescapeText } from './escapes.ts';
import { describeError, EXIT, exitCodeOf } from './exit-code.ts';
import { withFullFlags } from './flag-prefixes.ts';
import type { InspectCliOptions } from './inspect.ts';
import {
  addTypeOptions,
  addModelOptions,
  addSamplingOptions,
  dtypeOption,
  examples,
  notEmpty,
  type ModelOptions,
  type ReportOptions,
  type SamplingOptions,
} from './options.ts';
import { keepHeapSmall } from '../util/own-memory.ts';
import type { StorageType } from '../weights/storage-type.ts';
import type { TraceCliOptions } from './trace.ts';
import { PROCESS_OUTPUT, type CliOutput } from './output.ts';
import { packageVersion } from './package-version.ts';

export interface RunOptions extends ModelOptions, SamplingOptions, ReportOptions {
  readonly input: string;
  readonly output: string;
  readonly prompt?: string;
  readonly system?: string;
  readonly user?: string;
  readonly column?: string;
  readonly format?: 'csv' | 'jsonl';
  readonly force?: boolean;
  readonly restart?: boolean;
  readonly retryFailed?: boolean;
}

export interface GenerateOptions extends ModelOptions, SamplingOptions {
  readonly json?: boolean;
  readonly tokenIds?: boolean;
  readonly chat?: boolean;
  readonly system?: string;
}

export interface ConvertOptions extends ReportOptions {
  readonly dtype: StorageType;
  readonly output?: string;
  readonly force?: boolean;
}

/** What `flexllmgen models` is asked to do. */
export type ModelsTask = { readonly do: 'list' } | { readonly do: 'pull' | 'remove'; readonly name: string };

export interface DemoOptions extends ModelOptions, ReportOptions {}

/** What the commands do. Each returns the exit status. */
export interface CliActions {
  run(options: RunOptions): Promise<number>;
  generate(prompts: readonly string[], options: GenerateOptions): Promise<number>;
  doctor(options: { readonly json?: boolean }): Promise<number>;
  inspect(model: string | undefined, options: InspectCliOptions): Promise<number>;
  demo(options: DemoOptions): Promise<number>;
  convert(model: string, options: ConvertOptions): Promise<number>;
  verify(file: string, options: ReportOptions): Promise<number>;
  models(task: ModelsTask, options: ReportOptions): Promise<number>;
  trace(file: string, options: TraceCliOptions): Promise<number>;
  benchOpt(options: BenchOptions): Promise<number>;
}

/** Commands are loaded when they are called, so that help and errors of usage do not wait for the tensor library. */
const ACTIONS: CliActions = {
  run: async (options) => (await import('./run.ts')).run(options),
  generate: async (prompts, options) => (await import('./generate.ts')).generate(prompts, options),
  doctor: async (options) => (await import('./doctor.ts')).doctor(options),
  inspect: async (model, options) => (await import('./inspect.ts')).inspect(model, options),
  demo: async (options) => (await import('./demo.ts')).demo(options),
  convert: async (model, options) => (await import('./convert.ts')).convert(model, options),
  verify: async (file, options) => (await import('./verify.ts')).verify(file, options),
  models: async (task, options) => (await import('./models.ts')).models(task, options),
  trace: async (file, options) => (await import('./trace.ts')).trace(file, options),
  benchOpt: async (options) => (await import('./bench-opt.ts')).benchOpt(options),
};

/** Runs one command line (without node and script) and returns the exit status. All errors are printed here. */
export async function runCli(args: readonly string[], actions: CliActions = ACTIONS, output: CliOutput = PROCESS_OUTPUT): Promise<number> {
  let status: number = EXIT.ok;
  const json = wantsJson(args);
  const program = createProgram(actions, json ? { ...output, err: () => {} } : output, (code) => (status = code));
  try {
    await program.parseAsync(fullArgs(program, args), { from: 'user' });
    return status;
  } catch (error) {
    const isUsage = error instanceof CommanderError;
    // Help that was asked for is no error, help in place of a command is.
    if (isUsage && error.exitCode === 0) return EXIT.ok;
    const message = isUsage ? error.message.replace(/^error: /, '') : describeError(error);
    if (json) output.err(`${JSON.stringify({ type: 'error', message })}\n`);
    // For people, errors of usage have been printed already, with a hint at the help.
    else if (!isUsage) output.err(`flexllmgen: ${message}\n`);
    return isUsage ? EXIT.usage : exitCodeOf(error);
  }
}

/** Only published command lines of the benchmark have shortened flags; elsewhere a slip should not become another flag. */
function fullArgs(program: Command, args: readonly string[]): string[] {
  const bench = args[0] === BENCH_COMMAND ? program.commands.find((command) => command.name() === BENCH_COMMAND) : undefined;
  return bench ? withFullFlags(bench, args) : [...args];
}

/** Asked before the flags are parsed, for errors of usage are to be JSON as well. What follows `--` are no flags. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  return args.slice(0, end === -1 ? undefined : end).includes('--json');
}

function createProgram(actions: CliActions, output: CliOutput, finish: (status: number) => void): Command {
  const program = new Command('flexllmgen')
    .description('Runs a large language model over a large pile of text, on a machine that is too small for it.')
    .version(packageVersion(), '-V, --version')
    .exitOverride()
    .configureOutput({ writeOut: output.out, writeErr: output.err })
    .showHelpAfterError('(--help lists what there is)')
    .hook('preAction', (_, command) => {
      // Before the table is counted, which makes the heap grow.
      if (command.opts()['mem'] !== undefined) keepHeapSmall();
    });
  addRun(program).action(async (options: RunOptions) => finish(await actions.run(options)));
  addGenerate(program).action(async (prompts: string[], options: GenerateOptions) => finish(await actions.generate(prompts, options)));
  addDoctor(program).action(async (options: { json?: boolean }) => finish(await actions.doctor(options)));
  addInspect(program).action(async (model: string | undefined, options: InspectCliOptions) =>
    finish(await actions.inspect(model, options)),
  );
  addDemo(program).action(async (options: DemoOptions) => finish(await actions.demo(options)));
  addConvert(program).action(async (model: string, options: ConvertOptions) => finish(await actions.convert(model, options)));
  addVerify(program).action(async (file: string, options: ReportOptions) => finish(await actions.verify(file, options)));
  addModels(program, async (task, options) => finish(await actions.models(task, options)));
  addTrace(program).action(async (file: string, options: TraceCliOptions) => finish(await actions.trace(file, options)));
  addBenchOpt(program).action(async (options: BenchOptions) => finish(await actions.benchOpt(options)));
  return program;
}

function addRun(program: Command): Command {
  const command = program
    .command('run')
    .summary('fill a column of a table, or answer a file of requests')
    .description('Answers every row of a CSV or JSONL file. Can be stopped at any time; the same command goes on where it was.')
    .optionsGroup('Job:')
    .requiredOption('-i, --input <file>', 'CSV, or JSONL of plain objects or OpenAI batch lines; - is standard input', notEmpty)
    .requiredOption('-o, --output <file>', 'written when all rows are done; OUT.journal keeps what is done until then', notEmpty)
    .option('--prompt <text>', 'prompt of a row, {{column}} stands for its cell; \\n and \\t are understood', unescapeText)
    .option('--user <text>', "what a user says, in the model's chat template: --prompt for models of conversations", unescapeText)
    .option('--system <text>', 'what the system says before; {{column}} as in --prompt', unescapeText)
    .option('--column <name>', 'name of the new column (default: completion)', notEmpty)
    .addOption(new Option('--format <type>', 'of the input (default: by its name)').choices(['csv', 'jsonl']))
    .option('--force', "replace an output that is not this job's")
    .option('--restart', 'begin anew, forget what is done')
    .option('--retry-failed', 'answer the rows again that failed');
  return addReportOptions(addSamplingOptions(addModelOptions(command))).addHelpText(
    'after',
    examples(
      String.raw`flexllmgen run -i people.csv -o clean.csv --column last_first --prompt 'Task: Write the name as Last, First\nInput: {{name}}\nOutput:'`,
      'flexllmgen run -m ./llama.gguf -i reviews.jsonl -o rated.jsonl --system "Answer in one word." --user "Good or bad? {{review}}"',
      'Exit status: 0 all rows are done, 1 failed, 2 wrong usage, 3 some rows failed, 4 interrupted (the same command goes on).',
    ),
  );
}

function addGenerate(program: Command): Command {
  const command = program
    .command('generate')
    .summary('answer a few prompts')
    .description('Answers prompts from the command line, or one per line of standard input. A single answer is shown as it grows.')
    .argument('[prompt...]', '\\n and \\t are understood')
    .option('--chat', "each prompt is what a user says, in the model's chat template")
    .option('--system <text>', 'what the system says before the user; implies --chat', unescapeText)
    .option('--token-ids', 'prompts and answers are token ids, separated by spaces');
  addSamplingOptions(addModelOptions(command)).optionsGroup('Report:').option('--json', 'one line of JSON per prompt');
  return command.addHelpText(
    'after',
    examples(
      String.raw`flexllmgen generate 'Task: Write the date as YYYY-MM-DD\nInput: 27th of October, 1954\nOutput:'`,
      "flexllmgen generate -m Qwen/Qwen2.5-0.5B-Instruct --chat 'Name three rivers.'",
    ),
  );
}

function addDoctor(program: Command): Command {
  return program
    .command('doctor')
    .summary('what this machine offers, what is missing')
    .description(
      'Shows processor, memory, disk, compute libraries and models as this program sees them, and the commands that add what is missing.',
    )
    .option('--json', 'one line of JSON')
    .addHelpText('after', examples('flexllmgen doctor', 'flexllmgen doctor --json'));
}

function addInspect(program: Command): Command {
  const command = program
    .command('inspect')
    .summary('what a model is, what it takes, and whether it runs here')
    .description('Shows family, size, types, context and chat template of a model, and the memory it takes at several numbers of rows.')
    .argument('[model]', 'as for -m of run (default: the bundled tidy-opt-5m)');
  return addTypeOptions(command)
    .addOption(dtypeOption())
    .option('--json', 'one line of JSON')
    .addHelpText('after', examples('flexllmgen inspect ./llama.gguf', 'flexllmgen inspect ./models/opt-1.3b --kv-type f32 --json'));
}

function addDemo(program: Command): Command {
  const command = program
    .command('demo')
    .summary('clean a table of 560 rows with the bundled model, or another')
    .description(
      'Cleans the bundled table with the bundled model or another, shows some rows before and after, and how many answers are right.',
    );
  return addReportOptions(addModelOptions(command)).addHelpText('after', examples('flexllmgen demo', 'flexllmgen demo -m ./model.gguf'));
}

function addConvert(program: Command): Command {
  const command = program
    .command('convert')
    .summary('write a model as one GGUF file, in another type if wanted')
    .description(
      'Writes weights, configuration and tokenizer as one GGUF file with checksums, which loads fastest. Can be stopped at any time; the same ' +
        'command goes on where it was. Without -o the file goes to the cache, where every command finds it.',
    )
    .argument('<model>', 'name on the Hugging Face hub, folder of a model, or GGUF file')
    .addOption(dtypeOption())
    .option('-o, --output <file>', 'name of the new file (default: in the cache)', notEmpty)
    .option('--force', 'replace a file that is there');
  return addReportOptions(command).addHelpText(
    'after',
    examples('flexllmgen convert ./llama --dtype q4 -o llama-q4.gguf', 'flexllmgen convert ./opt-1.3b --dtype q8'),
  );
}

function addVerify(program: Command): Command {
  const command = program
    .command('verify')
    .summary('compare a converted file with its checksums')
    .description('Reads a file that `flexllmgen convert` wrote and names every tensor that has changed since. Exit status 1 if one has.')
    .argument('<file>', 'GGUF file');
  return addReportOptions(command).addHelpText(
    'after',
    examples('flexllmgen verify llama-q4.gguf', 'flexllmgen verify llama-q4.gguf --json'),
  );
}

function addModels(program: Command, act: (task: ModelsTask, options: ReportOptions) => Promise<void>): void {
  const group = program
    .command('models')
    .summary('models of the hub on this machine: list, fetch, remove')
    .description("Models that were fetched from the hub or converted, and what they take. The cache is that of Python's huggingface_hub.")
    .addHelpText('after', examples('flexllmgen models list', 'flexllmgen models pull owner/name:Q4_K_M'));
  addReportOptions(group.command('list').description('every model with size, type, context and family'))
    .addHelpText('after', examples('flexllmgen models list', 'flexllmgen models list --json'))
    .action(async (options: ReportOptions) => act({ do: 'list' }, options));
  addReportOptions(
    group
      .command('pull')
      .description('fetch a model, or go on fetching it')
      .argument('<name>', 'owner/name, owner/name@revision, owner/name:Q4_K_M'),
  )
    .addHelpText('after', examples('flexllmgen models pull facebook/opt-125m', 'flexllmgen models pull owner/name@main:Q4_K_M'))
    .action(async (name: string, options: ReportOptions) => act({ do: 'pull', name }, options));
  addReportOptions(
    group
      .command('remove')
      .description('remove a model, all its revisions, or a converted file')
      .argument('<name>', 'as `models list` shows it'),
  )
    .addHelpText(
      'after',
      examples('flexllmgen models remove facebook/opt-125m', 'flexllmgen models remove opt-125m-0123456789abcdef-q4.gguf'),
    )
    .action(async (name: string, options: ReportOptions) => act({ do: 'remove', name }, options));
}

function addTrace(program: Command): Command {
  return program
    .command('trace')
    .summary('where the time of a run went')
    .description('Reads a file that --trace wrote: how busy disk, transfers and computation were, and which of them the others waited for.')
    .argument('<file>', 'of --trace; ui.perfetto.dev opens it too')
    .option('--svg <file>', 'write a picture of the timeline', notEmpty)
    .option('--json', 'one line of JSON')
    .addHelpText('after', examples('flexllmgen trace run.trace.json', 'flexllmgen trace run.trace.json --svg run.svg'));
}

function addReportOptions(command: Command): Command {
  return command
    .optionsGroup('Report:')
    .option('--json', 'a summary as one line of JSON on standard output, progress as JSON lines on standard error')
    .option('--quiet', 'no progress and no summary for people');
}
