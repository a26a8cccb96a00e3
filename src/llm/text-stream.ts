/** One run of the engine with text at both ends: prompts are encoded, tokens decoded, stop strings found, requests checked. */
import type { Engine } from '../engine/engine.ts';
import type { EngineInput, SweepOutcome } from '../engine/sweep-outcome.ts';
import type { SequenceRequest, SequenceResult } from '../engine/sequence.ts';
import type { ChatMessage, GenerationEvent, GenerationParams, GenerationRequest, GenerationResult, RunStats } from '../requests.ts';
import type { Device } from '../tensor/device.ts';
import type { ChatTemplate } from '../tokenizer/chat-template.ts';
import type { Tokenizer } from '../tokenizer/tokenizer.ts';
import { FlexError, RequestError } from '../util/errors.ts';
import type { LaneLog, LaneTotals } from '../util/lanes.ts';
import type { WeightStore } from '../weights/weight-store.ts';
import { resolveParams } from './params.ts';
import { TextTracker } from './text-tracker.ts';

export interface TextStreamParts {
  readonly engine: Engine;
  readonly device: Pick<Device, 'tier' | 'memory'>;
  readonly weights: Pick<WeightStore, 'loadSeconds'>;
  readonly lanes: Pick<LaneLog, 'totals'>;
  readonly tokenizer?: Tokenizer;
  readonly chatTemplate?: ChatTemplate;
  readonly defaults: GenerationParams;
  readonly stopIds: ReadonlySet<number>;
}

/** Refused requests are handed out at least this often, so that a file of nothing else is not collected in memory. */
const MAX_REFUSED = 64;
const MAX_KEY = 2 ** 32 - 1;
/** Ids are signed 32-bit integers in models. */
const MAX_ID = 2 ** 31 - 1;

interface Row {
  readonly request: SequenceRequest;
  readonly tracker: TextTracker;
}

export class TextStream {
  readonly #parts: TextStreamParts;
  readonly #rows = new Map<number, Row>();
  readonly #refused: { index: number; error: FlexError }[] = [];
  #stats: Omit<RunStats, 'running' | 'peakGpuBytes' | 'lanes'> = {
    sweeps: 0,
    tokens: { prompt: 0, promptComputed: 0, promptShared: 0, generated: 0 },
    seconds: { load: 0, prefill: 0, decode: 0 },
  };

  constructor(parts: TextStreamParts) {
    this.#parts = parts;
  }

  async *run(
    requests: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
    signal: AbortSignal,
  ): AsyncGenerator<GenerationEvent, void, void> {
    for await (const outcome of this.#parts.engine.run(this.#encode(requests), signal)) {
      yield* this.#takeRefused();
      yield* this.#takeTokens(outcome);
      for (const result of outcome.finished) yield this.#finish(result);
      this.#count(outcome);
      if (outcome.seconds > 0)
        yield { type: 'sweep', stats: { ...this.#stats, running: outcome.running, peakGpuBytes: this.#peakGpuBytes, lanes: this.#lanes } };
    }
    yield* this.#takeRefused();
  }

  get #peakGpuBytes(): number {
    const { device } = this.#parts;
    return device.tier === 'gpu' ? device.memory().peakBytes : 0;
  }

  get #lanes(): LaneTotals[] {
    return this.#parts.lanes.totals().filter(({ pieces }) => pieces > 0);
  }

  /** Turns requests into sequences; those that cannot be served are put aside. */
  async *#encode(requests: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>): AsyncGenerator<EngineInput, void, void> {
    let index = 0;
    for await (const request of requests) {
      try {
        const row = await this.#open(index, request);
        this.#rows.set(index, row);
        yield row.request;
      } catch (cause) {
        if (!(cause instanceof FlexError)) throw cause;
        this.#refused.push({ index, error: cause });
        if (this.#refused.length >= MAX_REFUSED) yield 'pause';
      }
      index++;
    }
  }

  async #open(index: number, { prompt, params = {}, key = index }: GenerationRequest): Promise<Row> {
    const { tokenizer, engine, defaults, stopIds } = this.#parts;
    const { sampling, stop } = resolveParams(params, defaults);
    if (!Number.isInteger(key) || key < 0 || key > MAX_KEY)
      throw new RequestError(`key: an integer from 0 to ${MAX_KEY} expected, got ${key}`);
    if (stop.length > 0 && !tokenizer) throw new RequestError('stop: the model has no tokenizer; use stop token ids');
    const tokens = await this.#tokens(prompt, sampling.maxTokens);
    engine.check({ tokens }, sampling.maxTokens);
    const ends = new Set([...(sampling.ignoreEos ? [] : stopIds), ...sampling.stopTokenIds]);
    const tracker = new TextTracker(tokenizer?.streamDecoder(), stop);
    return { request: { id: index, key, tokens, sampling, stopIds: ends }, tracker };
  }

  async #tokens(prompt: GenerationRequest['prompt'], maxTokens: number): Promise<Int32Array> {
    if (typeof prompt === 'object' && 'messages' in prompt) return this.#chatTokens(prompt.messages, maxTokens);
    if (typeof prompt !== 'string') {
      const wrong = prompt.find((id) => id !== Math.trunc(id) || Math.abs(id) > MAX_ID); // what Int32Array would wrap around
      if (wrong !== undefined) throw new RequestError(`prompt: token ids expected, got ${String(wrong)}`);
      return Int32Array.from(prompt);
    }
    const { tokenizer } = this.#parts;
    if (!tokenizer) throw new RequestError('the model has no tokenizer; its prompts must be token ids');
    this.#checkText(tokenizer, prompt, maxTokens);
    return tokenizer.encode(prompt);
  }

  /** The template writes the special tokens itself. */
  async #chatTokens(messages: readonly ChatMessage[], maxTokens: number): Promise<Int32Array> {
    const { tokenizer, chatTemplate } = this.#parts;
    if (!tokenizer || !chatTemplate)
      throw new RequestError('messages: the model has no chat template; its prompts must be text or token ids');
    const text = chatTemplate.render(messages);
    this.#checkText(tokenizer, text, maxTokens);
    return tokenizer.encodeRaw(text);
  }

  /** A text that cannot fit is refused before it is encoded, which takes over 100 bytes of memory a character. */
  #checkText(tokenizer: Tokenizer, text: string, maxTokens: number): void {
    const minTokens = tokenizer.minTokens(text);
    if (minTokens > 0) this.#parts.engine.checkLength(minTokens, maxTokens, 'at least ');
  }

  *#takeRefused(): Generator<GenerationEvent, void, void> {
    for (const { index, error } of this.#refused.splice(0)) yield { type: 'failed', index, error };
  }

  *#takeTokens({ tokens, finished }: SweepOutcome): Generator<GenerationEvent, void, void> {
    const last = new Set(finished.map(({ id }) => id));
    for (const { id, token } of tokens) {
      const { request, tracker } = this.#rows.get(id)!;
      // The token that ends a completion is no text; what was held back until then is.
      const text = (request.stopIds.has(token) ? '' : tracker.push(token)) + (last.has(id) ? tracker.end() : '');
      yield { type: 'token', index: id, id: token, text };
      if (!tracker.stopped) continue;
      const result = this.#parts.engine.stop(id);
      if (result) yield this.#finish(result);
    }
  }

  #finish(result: SequenceResult): GenerationEvent {
    const { request, tracker } = this.#rows.get(result.id)!;
    this.#rows.delete(result.id);
    tracker.end();
    const { logprobs, promptLogprobs } = result;
    const generation: GenerationResult = {
      index: result.id,
      text: tracker.text,
      tokenIds: result.generated,
      finishReason: tracker.stopped ? 'stop' : result.end,
      promptTokenIds: Array.from(request.tokens),
      ...(logprobs && { logprobs: logprobs.toArray() }),
      ...(promptLogprobs && { promptLogprobs: [null, ...promptLogprobs.toArray()] }),
    };
    return { type: 'finished', index: result.id, result: generation };
  }

  #count({ tokens, promptTokens, sharedTokens, admittedTokens, seconds }: SweepOutcome): void {
    const { sweeps, tokens: sum, seconds: time } = this.#stats;
    const isPrefill = promptTokens > 0;
    this.#stats = {
      sweeps: seconds > 0 ? sweeps + 1 : sweeps,
      tokens: {
        prompt: sum.prompt + admittedTokens,
        promptComputed: sum.promptComputed + promptTokens,
        promptShared: sum.promptShared + sharedTokens,
        generated: sum.generated + tokens.length,
      },
      seconds: {
        load: this.#parts.weights.loadSeconds,
        prefill: time.prefill + (isPrefill ? seconds : 0),
        decode: time.decode + (isPrefill ? 0 : seconds),
      },
    };
  }
}
