/** Joins model, device, engine and tokenizer: text or token ids in, text and token ids out. */
import type { ExecutionPlan } from './engine/execution-plan.ts';
import { Engine } from './engine/engine.ts';
import { Executor } from './engine/executor.ts';
import { diskBudget, openOffloaded } from './llm/offloaded.ts';
import { openAttending, openDevice } from './llm/device.ts';
import { checkCounts, type LoadOptions } from './llm/load-options.ts';
import { makePlan, wantsCacheBeside } from './llm/make-plan.ts';
import { type ModelSource, dummyModelSource } from './llm/model-source.ts';
import { openStoredSource, recodedSource } from './llm/stored-source.ts';
import { rowRoom } from './llm/row-room.ts';
import { modelShape, type ModelShape } from './llm/model-shape.ts';
import { TextStream } from './llm/text-stream.ts';
import type {
  GenerationEvent,
  GenerationParams,
  GenerationRequest,
  GenerationResult,
  GeneratorInfo,
  StreamOptions,
  TextGenerator,
} from './requests.ts';
import { writeTrace } from './profile/chrome-trace.ts';
import { checkTracePlace } from './profile/trace-place.ts';
import { rowSampler } from './sampling/native-rows.ts';
import { AttentionBeside } from './tensor/attention-beside.ts';
import type { Device } from './tensor/device.ts';
import { BUNDLED_NAME } from './util/bundled.ts';
import { FlexError, UsageError } from './util/errors.ts';
import { LaneLog, MAX_LANE_EVENTS } from './util/lanes.ts';
import { Lifetime } from './util/lifetime.ts';
import { processorFacts } from './util/machine.ts';
import { keepHeapSmall } from './util/own-memory.ts';
import { placementRules, placeWeights } from './weights/placement.ts';
import { reason } from './util/system-errors.ts';
import { WeightStore } from './weights/weight-store.ts';

/** A loaded model. One stream at a time; dispose it with `await using` or `await llm[Symbol.asyncDispose]()`. */
export class LLM implements TextGenerator, AsyncDisposable {
  readonly info: GeneratorInfo;
  /** What runs and what memory it takes. */
  readonly plan: ExecutionPlan;
  /** How large the model is. */
  readonly shape: ModelShape;
  readonly #source: ModelSource;
  readonly #engine: Engine;
  readonly #device: Device;
  readonly #weights: WeightStore;
  readonly #lanes: LaneLog;
  readonly #defaults: GenerationParams;
  readonly #lifetime: Lifetime;
  readonly #closing = new AbortController();

  private constructor(parts: LoadedParts, defaults: GenerationParams, lifetime: Lifetime) {
    this.#source = parts.source;
    this.#engine = parts.engine;
    this.#device = parts.device;
    this.#weights = parts.weights;
    this.#lanes = parts.lanes;
    this.#defaults = { ...parts.source.recommended, ...defaults };
    this.#lifetime = lifetime;
    this.plan = parts.plan;
    this.info = parts.info;
    this.shape = modelShape(parts.source);
  }

  /**
   * Opens a model folder, a GGUF file, a model of the hub such as `owner/name` or `owner/name:Q4_K_M`, or the bundled model without a name. Configuration, tokenizer, weight tables and memory are checked before it
   * returns; the weights are read while the first rows are computed.
   * @throws {UsageError} {FormatError} {MemoryError} {NativeError}
   */
  static async load(pathOrName: string = BUNDLED_NAME, options: LoadOptions = {}): Promise<LLM> {
    const lifetime = new Lifetime();
    try {
      return new LLM(await openParts(pathOrName, options, lifetime), options.defaults ?? {}, lifetime);
    } catch (cause) {
      await lifetime[Symbol.asyncDispose]();
      throw cause;
    }
  }

  /**
   * Completes all prompts and returns the results in their order.
   * @throws {RequestError} for the first prompt that cannot be served; whatever `stream` throws
   */
  async generate(
    prompts: readonly (GenerationRequest | GenerationRequest['prompt'])[],
    params: GenerationParams = {},
    options: StreamOptions = {},
  ): Promise<GenerationResult[]> {
    const requests = prompts.map((prompt): GenerationRequest => {
      if (typeof prompt === 'string' || !('prompt' in prompt)) return { prompt, params };
      return { ...prompt, params: { ...params, ...prompt.params } };
    });
    const results: GenerationResult[] = [];
    for await (const event of this.stream(requests, options)) {
      if (event.type === 'failed')
        throw new FlexError(event.error.code, `prompt ${event.index}: ${event.error.message}`, event.error.facts);
      if (event.type === 'finished') results[event.index] = event.result;
    }
    return results;
  }

  /** See TextGenerator. */
  async *stream(
    requests: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
    options: StreamOptions = {},
  ): AsyncGenerator<GenerationEvent, void, void> {
    if (this.#closing.signal.aborted) throw new UsageError('the model is closed');
    const signal = options.signal ? AbortSignal.any([options.signal, this.#closing.signal]) : this.#closing.signal;
    const { tokenizer, chatTemplate, stopIds } = this.#source;
    const parts = {
      engine: this.#engine,
      device: this.#device,
      weights: this.#weights,
      lanes: this.#lanes,
      defaults: this.#defaults,
      stopIds,
      ...(tokenizer && { tokenizer }),
      ...(chatTemplate && { chatTemplate }),
    };
    yield* new TextStream(parts).run(requests, signal);
  }

  /** See TextGenerator. */
  get hasChatTemplate(): boolean {
    const { tokenizer, chatTemplate } = this.#source;
    return tokenizer !== undefined && chatTemplate !== undefined;
  }

  tokenText(id: number): string {
    return this.#source.tokenizer?.tokenText(id) ?? '';
  }

  /** Ends a running stream at the next layer and frees everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new UsageError('the model is closed'));
    await this.#engine.idle();
    await this.#lifetime[Symbol.asyncDispose]();
  }
}

interface LoadedParts {
  readonly source: ModelSource;
  readonly engine: Engine;
  readonly device: Device;
  readonly weights: WeightStore;
  readonly lanes: LaneLog;
  readonly plan: ExecutionPlan;
  readonly info: GeneratorInfo;
}

async function openParts(name: string, options: LoadOptions, lifetime: Lifetime): Promise<LoadedParts> {
  checkCounts(options);
  if (options.trace !== undefined) await checkTracePlace(options.trace);
  if (options.memoryBytes !== undefined) keepHeapSmall();
  const { compute = 'auto', signal } = options;
  const source = await openSource(name, options, lifetime);
  const { model } = source;
  const cores = processorFacts().threads;
  const threads = Math.min(options.threads ?? cores, cores);
  const lanes = new LaneLog({ keepEvents: options.trace === undefined ? 0 : MAX_LANE_EVENTS });
  const deviceOptions = {
    threads,
    exact: compute === 'f32',
    gpus: options.gpus,
    vramBytes: options.vramBytes,
    model,
    lanes,
    onNotice: options.onNotice,
  };
  const device = lifetime.use(await openDevice(options.device ?? 'cpu', deviceOptions));
  const attending = wantsCacheBeside(options, device) ? lifetime.use(openAttending(deviceOptions)) : device;
  const weights = lifetime.use(new WeightStore(device, model, source.weights, { compute, signal, lanes, overlap: options.overlap }));
  const room = options.rows && rowRoom(options.rows, { ...source.recommended, ...options.defaults }, model.contextLength);
  const plan = makePlan(
    { model, device, attending, weights },
    { ...options, rows: room?.rows, scores: room?.scores, compute, diskBytes: await diskBudget(options) },
  );
  const offloaded = await openOffloaded({ device, attending, model, plan, lanes, lifetime }, options);
  const { batchTokens } = plan;
  const computing = attending === device ? device : lifetime.use(new AttentionBeside({ device, attending, batchTokens, lanes }));
  const executor = lifetime.use(new Executor({ device: computing, model, weights, ...offloaded, plan, lanes }));
  const { cache } = offloaded;
  // Elsewhere the last digits depend on how a prompt is cut, which a row that is computed again would be anew.
  const reserveAll = !device.capabilities.pagedAttention;
  const engine = new Engine({
    model,
    plan,
    executor,
    cache,
    takeRows: rowSampler(computing),
    sharePrefixes: options.sharePrefixes,
    reserveAll,
  });
  const shares = { resident: plan.weights.share, held: plan.host?.share ?? 0 };
  weights.start({ placement: placeWeights(weights.plan, shares, placementRules(device)), slots: plan.weights.slots });
  if (options.trace !== undefined) lifetime.use(traceWriter(options.trace, lanes, options.onNotice));
  const info: GeneratorInfo = {
    model: name,
    family: model.family,
    contextLength: model.contextLength,
    fingerprint: fingerprintOf(source, compute, plan),
    kernels: computing.name,
  };
  return { source, engine, device, weights, lanes, plan, info };
}

/** Of all that decides the answers to a request. */
function fingerprintOf({ fingerprint }: ModelSource, compute: 'auto' | 'f32', { kvType, attnSparsity }: ExecutionPlan): string {
  return `${fingerprint} compute ${compute} kv ${kvType}${attnSparsity < 1 ? ` sparsity ${attnSparsity}` : ''}`;
}

async function openSource(name: string, options: LoadOptions, lifetime: Lifetime): Promise<ModelSource> {
  const { dummy = false, dtype: type = 'auto', convert, checksums, signal, onPreparation, onNotice } = options;
  if (dummy === false) return openStoredSource(name, lifetime, { type, convert, checksums, signal, onPreparation, onNotice });
  return recodedSource(dummyModelSource(name, dummy === true ? undefined : dummy), type, onNotice);
}

/** Results that are there already must not be lost to a trace. */
function traceWriter(path: string, lanes: LaneLog, onNotice: LoadOptions['onNotice']): AsyncDisposable {
  return {
    [Symbol.asyncDispose]: () =>
      writeTrace(path, lanes).catch((cause: unknown) => onNotice?.(`the trace ${path} was not written: ${reason(cause)}`)),
  };
}
