/** The protocol of FlexGen's benchmark: rows of equal length, all in flight at once, each sweep timed. */
import type { ModelShape } from '../llm/model-shape.ts';
import type { GenerationEvent, GenerationRequest, TextGenerator } from '../requests.ts';
import { uniform } from '../sampling/random.ts';
import { MemoryError, UsageError } from '../util/errors.ts';
import { type BenchTask, type BenchTimes, decodeSweeps, rowsOf } from './bench-figures.ts';

export interface Measurement extends BenchTimes {
  /** 0 without a GPU. */
  readonly peakGpuBytes: number;
  /** Completions of the first and the last row as far as they were run; empty without a tokenizer. */
  readonly texts: readonly [first: string, last: string];
}

export interface MeasureOptions {
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds. Default: the process's clock. */
  readonly now?: () => number;
}

/** The same prompts in every run. */
const SEED = 1;
/** Enough to run every graph once. */
const WARM_UP_TOKENS = 32;

/**
 * Runs the task and times it. A short row goes first: it waits until the weights that stay are in memory.
 * @throws {UsageError} for rows that are longer than the context; {MemoryError} when not all rows fit at once; whatever the model throws
 */
export async function measure(
  model: Pick<TextGenerator, 'info' | 'stream'> & { readonly shape: ModelShape },
  task: BenchTask,
  { signal, now = () => performance.now() }: MeasureOptions = {},
): Promise<Measurement> {
  const length = task.promptTokens + task.newTokens;
  const { contextLength } = model.info;
  if (length > contextLength)
    throw new UsageError(`rows of ${task.promptTokens} + ${task.newTokens} tokens: the model's context is ${contextLength}`);
  const options = signal ? { signal } : {};
  for await (const event of model.stream([warmUp(model.shape, task)], options)) if (event.type === 'failed') throw event.error;
  const watch = new StopWatch(task, now);
  for await (const event of model.stream(requests(model.shape, task), options)) if (watch.see(event)) break;
  return watch.result();
}

/** Sorts the time between sweeps into the phases. */
class StopWatch {
  readonly #task: BenchTask;
  readonly #now: () => number;
  readonly #started = new Set<number>();
  readonly #decode: number[] = [];
  readonly #texts: [string, string] = ['', ''];
  #last: number;
  #prefill = 0;
  #generated = 0;
  #prefillGenerated = 0;
  #peakGpuBytes = 0;

  constructor(task: BenchTask, now: () => number) {
    this.#task = task;
    this.#now = now;
    this.#last = now();
  }

  /** @returns whether all has been seen that is wanted */
  see(event: GenerationEvent): boolean {
    if (event.type === 'failed') throw event.error;
    if (event.type === 'token') this.#token(event.index, event.text);
    if (event.type !== 'sweep') return false;
    const { stats } = event;
    const wanted = rowsOf(this.#task) * this.#task.promptTokens;
    if (stats.tokens.prompt < wanted)
      throw new MemoryError(`the KV cache holds ${stats.running} of ${rowsOf(this.#task)} rows at a time; fewer rows would fit`);
    this.#peakGpuBytes = stats.peakGpuBytes;
    return this.#sweep();
  }

  result(): Measurement {
    return {
      prefillSeconds: this.#prefill,
      prefillGenerated: this.#prefillGenerated,
      decodeSeconds: this.#decode,
      peakGpuBytes: this.#peakGpuBytes,
      texts: this.#texts,
    };
  }

  #token(index: number, text: string): void {
    this.#started.add(index);
    this.#generated++;
    if (index === 0) this.#texts[0] += text;
    if (index === rowsOf(this.#task) - 1) this.#texts[1] += text;
  }

  #sweep(): boolean {
    const now = this.#now();
    const seconds = (now - this.#last) / 1000;
    this.#last = now;
    if (this.#prefillGenerated > 0) this.#decode.push(seconds);
    else {
      this.#prefill += seconds;
      if (this.#started.size === rowsOf(this.#task)) this.#prefillGenerated = this.#generated;
    }
    return this.#prefillGenerated > 0 && this.#decode.length >= decodeSweeps(this.#task);
  }
}

function warmUp(shape: ModelShape, { promptTokens }: BenchTask): GenerationRequest {
  return { prompt: prompt(shape, 0, Math.min(promptTokens, WARM_UP_TOKENS)), params: { maxTokens: 1 } };
}

/** Also a run that is cut short asks for all tokens: rows that began first must not leave while others are measured. */
function* requests(shape: ModelShape, task: BenchTask): Generator<GenerationRequest, void, void> {
  const params = { maxTokens: task.newTokens, ignoreEos: true, temperature: 0 };
  for (let row = 0; row < rowsOf(task); row++) yield { prompt: prompt(shape, row, task.promptTokens), params };
}

/** Made-up ids, other ones in every row, none that ends a text. */
function prompt({ vocabularySize, endTokenIds }: ModelShape, row: number, length: number): number[] {
  const ends = new Set(endTokenIds);
  return Array.from({ length }, (_, position) => {
    let id = Math.floor(uniform(SEED, row, position) * vocabularySize);
    while (ends.has(id)) id = (id + 1) % vocabularySize;
    return id;
  });
}
