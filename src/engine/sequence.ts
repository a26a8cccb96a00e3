import type { KvSequence } from '../kv/kv-cache.ts';
import { hasPenalties, TokenCounts } from '../sampling/penalties.ts';
import { LogprobList } from '../sampling/logprob-list.ts';
import type { SamplingParams, TokenMask } from '../sampling/params.ts';

/** What the engine is asked to continue. Token ids only; text lives outside. */
export interface SequenceRequest {
  /** Chosen by the caller, unique among the sequences in flight. */
  readonly id: number;
  /** Key of the random generator, with seed and position. */
  readonly key: number;
  /** At least one token. */
  readonly tokens: Int32Array;
  readonly sampling: SamplingParams;
  /** Ids that end the sequence. */
  readonly stopIds: ReadonlySet<number>;
  readonly mask?: TokenMask;
}

export type SequenceEnd = 'stop' | 'length';

export interface SequenceResult {
  readonly id: number;
  readonly promptTokens: number;
  /** With the id that ended the sequence, if one did. */
  readonly generated: readonly number[];
  readonly end: SequenceEnd;
  readonly logprobs?: LogprobList;
  /** Of the prompt's tokens from the second on. */
  readonly promptLogprobs?: LogprobList;
}

/** What holds the keys and values of tokens that a prompt may begin with. */
export interface PrefixSource {
  readonly tokens: Int32Array;
  readonly cache: KvSequence;
  /** Tokens whose keys and values are in the cache. */
  readonly computed: number;
}

/** So many first tokens of a source. */
export interface SharedPrefix {
  readonly source: PrefixSource;
  readonly length: number;
}

/** A request in flight. */
export class Sequence implements PrefixSource {
  readonly request: SequenceRequest;
  cache: KvSequence;
  /** Longest that it may become, prompt and completion together. */
  readonly maxLength: number;
  readonly reserve: number;
  readonly generated: number[] = [];
  /** Its tokens, for penalties if there are any. */
  readonly counts: TokenCounts | undefined;
  /** Of its tokens, and of those of the prompt from the second on, if they are asked for. */
  readonly logprobs: LogprobList | undefined;
  readonly promptLogprobs: LogprobList | undefined;
  /** Tokens whose keys and values are in the cache. */
  computed: number;
  /** Tokens of the prompt that were in the cache when it began, as another sequence had computed them. */
  shared: number;
  /** It begins as a fork of this prefix as soon as that is computed, and computes nothing before. */
  awaits: SharedPrefix | undefined;
  /** Most tokens that ever were: what they predict is known, even while they are computed again. */
  furthest: number;
  #restarted = false;
  end: SequenceEnd | undefined;

  /**
   * @param cache empty, or with as many of the prompt's first tokens as it has positions
   * @param reserve positions that are reserved in the cache
   */
  constructor(request: SequenceRequest, cache: KvSequence, maxLength: number, reserve: number = maxLength) {
    this.reserve = reserve;
    this.request = request;
    this.cache = cache;
    this.maxLength = maxLength;
    this.computed = this.furthest = this.shared = cache.length;
    const { logprobs, promptLogprobs } = request.sampling;
    this.counts = hasPenalties(request.sampling) ? new TokenCounts(request.tokens) : undefined;
    this.logprobs = logprobs === undefined ? undefined : new LogprobList(logprobs);
    this.promptLogprobs = promptLogprobs === undefined ? undefined : new LogprobList(promptLogprobs);
  }

  /** The micro-batch that it belongs to. */
  get bay(): number {
    return this.cache.bay;
  }

  /** Of the prompt. */
  get tokens(): Int32Array {
    return this.request.tokens;
  }

  get length(): number {
    return this.request.tokens.length + this.generated.length;
  }

  /** Tokens that have not passed the model. */
  get pending(): number {
    return this.length - this.computed;
  }

  /** The next sweep computes the token that the last one sampled. */
  get decodes(): boolean {
    return !this.inPrompt && this.pending === 1;
  }

  get inPrompt(): boolean {
    return this.computed < this.request.tokens.length;
  }

  /** Notes that the next `size` tokens were computed. */
  advance(size: number): void {
    this.computed += size;
    this.furthest = Math.max(this.furthest, this.computed);
  }

  /** Begins behind the tokens that are in `cache`. */
  begin(cache: KvSequence): void {
    this.cache = cache;
    this.awaits = undefined;
    this.computed = this.furthest = this.shared = cache.length;
  }

  /** Whether a sampled token makes the sequence longer than `context`, whose keys longer sequences cannot use. */
  outgrows(context: number): boolean {
    return !this.#restarted && this.request.tokens.length <= context && this.length > context;
  }

  /** Begins anew, in an empty cache, with all tokens that it has. */
  restart(cache: KvSequence): void {
    this.cache = cache;
    this.computed = 0;
    this.#restarted = true;
  }

  /** Computes all tokens that it has again, in an empty cache, since it had to give up the other one. */
  resume(cache: KvSequence): void {
    this.cache = cache;
    this.awaits = undefined;
    this.computed = 0;
    this.shared = 0;
  }

  tokenAt(position: number): number {
    const { tokens } = this.request;
    return position < tokens.length ? tokens[position]! : this.generated[position - tokens.length]!;
  }

  /** Takes a sampled token and notes whether it was the last one. */
  push(token: number): void {
    this.generated.push(token);
    this.counts?.add(token);
    if (this.request.stopIds.has(token)) this.end = 'stop';
    else if (this.length >= this.maxLength) this.end = 'length';
  }

  result(end: SequenceEnd): SequenceResult {
    const { id, tokens } = this.request;
    const { logprobs, promptLogprobs } = this;
    return {
      id,
      end,
      promptTokens: tokens.length,
      generated: this.generated,
      ...(logprobs && { logprobs }),
      ...(promptLogprobs && { promptLogprobs }),
    };
  }
}
