/** What goes into a text generator and what comes out: plain data, shared by the public API, the batch jobs and the CLI. */
import type { PositionLogprobs } from './sampling/params.ts';
import type { FlexError } from './util/errors.ts';
import type { LaneTotals } from './util/lanes.ts';

/** Parameters of one request. What is missing comes from the generator's defaults, then from DEFAULT_PARAMS. */
export interface GenerationParams {
  /** 0 is greedy. Default 0. */
  readonly temperature?: number;
  /** Keep the k most probable tokens; 0 keeps all. Default 0. */
  readonly topK?: number;
  /** Nucleus sampling, in (0, 1]. Default 1. */
  readonly topP?: number;
  /** Keep tokens of at least this times the probability of the most probable one, in [0, 1]. Default 0, which keeps all. */
  readonly minP?: number;
  /** Divides positive and multiplies other logits of tokens that the prompt or the completion has, in (0, 100]. Default 1. */
  readonly repetitionPenalty?: number;
  /** Subtracted from logits of generated tokens, in [-2, 2]. Default 0. */
  readonly presencePenalty?: number;
  /** Subtracted as often as a token was generated, in [-2, 2]. Default 0. */
  readonly frequencyPenalty?: number;
  /** Integer in [0, 2^32). Default 0. */
  readonly seed?: number;
  /** Most tokens to generate. Default: `max_new_tokens` of generation_config.json, else 256. */
  readonly maxTokens?: number;
  /** The completion ends before the first occurrence of one of these. Default none. */
  readonly stop?: readonly string[];
  /** The completion ends before one of these tokens. Default none, beside the model's end-of-sequence ids. */
  readonly stopTokenIds?: readonly number[];
  /** Go on after the end-of-sequence token. Default false. */
  readonly ignoreEos?: boolean;
  /** Report log-probabilities of generated tokens, with this many alternatives (0 to 20). Default off. */
  readonly logprobs?: number;
  /** The same for the tokens of the prompt. Default off. */
  readonly promptLogprobs?: number;
}

/** A part of a conversation. */
export interface ChatMessage {
  /** Such as `system`, `user` or `assistant`; the model's chat template decides. */
  readonly role: string;
  readonly content: string;
}

/** What to complete: text, token ids that are used as they are, or a conversation for a model with a chat template. */
export type PromptInput = string | readonly number[] | { readonly messages: readonly ChatMessage[] };

/** One prompt to complete. */
export interface GenerationRequest {
  readonly prompt: PromptInput;
  readonly params?: GenerationParams;
  /**
   * Key of the random generator, with seed and position: a row sampled again under the same key gives the same tokens.
   * Integer in [0, 2^32). Default: the index of the request.
   */
  readonly key?: number;
}

/** What is known of the requests to come before the first of them is read. */
export interface ExpectedRows {
  readonly count: number;
  /** Of the longest prompt, nearly. */
  readonly promptTokens: number;
  /** Most tokens that one of them asks for. Default: none does. */
  readonly maxTokens?: number;
  /** One of them leaves that to the model. Default false. */
  readonly leaveLimit?: boolean;
  /** Most alternatives that one of them wants with its log-probabilities, and with those of its prompt. Default: none wants any. */
  readonly logprobs?: number | undefined;
  readonly promptLogprobs?: number | undefined;
  /** The plan is to serve any others too: the cache gets all the room there is. Default false. */
  readonly others?: boolean;
}

/** `stop`: an end-of-sequence token, stop token or stop string; `length`: the token limit or the end of the context. */
export type FinishReason = 'stop' | 'length';

/** A completion. */
export interface GenerationResult {
  /** Index of the request, from 0. */
  readonly index: number;
  /** Completion without special tokens, cut before a stop string. */
  readonly text: string;
  /** Generated ids, with the id that ended the completion if one did. */
  readonly tokenIds: readonly number[];
  readonly finishReason: FinishReason;
  readonly promptTokenIds: readonly number[];
  /** One per generated token, if asked for. */
  readonly logprobs?: readonly PositionLogprobs[];
  /** One per prompt token, if asked for; null for the first, which nothing precedes. */
  readonly promptLogprobs?: readonly (PositionLogprobs | null)[];
}

/** Tokens since the stream began. */
export interface RunTokens {
  /** Tokens of the prompts that were admitted. */
  readonly prompt: number;
  /** Those of them that passed the model. */
  readonly promptComputed: number;
  /** Those of them that did not need to, because a prompt that begins with them had passed it. */
  readonly promptShared: number;
  /** Sampled tokens. */
  readonly generated: number;
}

/** Where the time went; loading overlaps with the first sweep. */
export interface RunSeconds {
  /** Reading the weights. */
  readonly load: number;
  /** Sweeps that carried any prompt token. */
  readonly prefill: number;
  /** Sweeps of generated tokens only. */
  readonly decode: number;
}

/** Totals since the stream began. */
export interface RunStats {
  readonly sweeps: number;
  /** Rows in flight. */
  readonly running: number;
  /** Most bytes that the device's own memory held so far; 0 when the device is the processor. */
  readonly peakGpuBytes: number;
  readonly tokens: RunTokens;
  readonly seconds: RunSeconds;
  /** Lanes that did something since the model was loaded: what their work took, and what it moved. */
  readonly lanes: readonly LaneTotals[];
}

/** What a stream yields. */
export type GenerationEvent =
  | {
      readonly type: 'token';
      readonly index: number;
      readonly id: number;
      /** May be empty while a character is incomplete. */ readonly text: string;
    }
  | { readonly type: 'finished'; readonly index: number; readonly result: GenerationResult }
  /** This request cannot be served; the others go on. */
  | { readonly type: 'failed'; readonly index: number; readonly error: FlexError }
  /** After each sweep, after its tokens and results. */
  | { readonly type: 'sweep'; readonly stats: RunStats };

/** Options of a run. */
export interface StreamOptions {
  /** Ends the stream at the next layer with an AbortError; everything is freed. */
  readonly signal?: AbortSignal;
}

/** Facts about a loaded model that jobs and summaries record. */
export interface GeneratorInfo {
  /** As the user named it. */
  readonly model: string;
  readonly family: string;
  readonly contextLength: number;
  /** Changes when configuration, tokenizer, weights, or what decides the arithmetic (compute, KV type) change. */
  readonly fingerprint: string;
  /** What computes, such as `ggml cpu zen4, 2 threads`. */
  readonly kernels: string;
}

/** What a batch job needs of an LLM. */
export interface TextGenerator {
  readonly info: GeneratorInfo;
  /** Whether conversations can be given as `{ messages }`. */
  readonly hasChatTemplate: boolean;
  /**
   * Generates for all requests, a block at a time; requests are pulled as room appears, so the source may be endless. Results come in
   * the order in which they finish. Errors of the generator itself (I/O, memory, NaN) are thrown.
   */
  stream(
    requests: Iterable<GenerationRequest> | AsyncIterable<GenerationRequest>,
    options?: StreamOptions,
  ): AsyncGenerator<GenerationEvent, void, void>;
  /** Text of one token, for display. */
  tokenText(id: number): string;
}
