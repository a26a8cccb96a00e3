/** Prompts that begin alike compute their beginning once: the first one computes it, the others begin as forks of it. */
import type { KvCache } from '../kv/kv-cache.ts';
import { internalError } from '../util/errors.ts';
import { type PrefixSource, Sequence, type SequenceRequest, type SharedPrefix } from './sequence.ts';

/**
 * Tokens from which on a common beginning counts. Short instructions have 9 to 15 (examples/data/messy.csv). A fork copies a page, which is
 * less work than a token; a row that waits for one begins a sweep later.
 */
const LEAST_SHARED = 8;
/** Share of the pages of a group of layers that prefixes may hold whose rows have left. */
const KEPT_SHARE = 0.25;
/** Every row that enters is compared with all of them, and what they hold is memory that has been touched. */
const MOST_KEPT = 64;

/** What a sequence wants of the cache: positions, those that are reserved, and where its pages may go. */
export interface Room {
  readonly maxLength: number;
  readonly reserve: number;
  readonly bay: number;
}

export class Prefixes {
  readonly #cache: KvCache;
  readonly #longest: number;
  /** Least recently used first. Rows come and go; these stay as long as there is room. */
  #kept: PrefixSource[] = [];

  /** Sequences that may become longer than `longest` share nothing, because their keys may differ from those of shorter ones. */
  constructor(cache: KvCache, longest: number) {
    this.#cache = cache;
    this.#longest = longest;
  }

  /**
   * A sequence with room in the cache, which begins behind a prefix that is there, or waits for one that a running sequence computes; undefined
   * while there is no room.
   */
  async open(request: SequenceRequest, { maxLength, reserve, bay }: Room, running: readonly Sequence[]): Promise<Sequence | undefined> {
    const prefix = this.#find(request, maxLength, running);
    const ready = prefix !== undefined && prefix.source.computed >= prefix.length;
    const cache = ready
      ? await this.#cache.fork(prefix.source.cache, prefix.length, maxLength, reserve, bay)
      : this.#cache.open(maxLength, reserve, bay);
    if (!cache) return undefined;
    const sequence = new Sequence(request, cache, maxLength, reserve);
    if (!ready) sequence.awaits = prefix;
    return sequence;
  }

  /** Lets sequences begin whose prefix is computed now. Must be called before its pages may go. */
  async handOver(running: readonly Sequence[]): Promise<void> {
    for (const sequence of running) {
      const { awaits } = sequence;
      if (!awaits || awaits.source.computed < awaits.length) continue;
      const { maxLength, reserve, bay } = sequence;
      sequence.cache[Symbol.dispose]();
      const fork = await this.#cache.fork(awaits.source.cache, awaits.length, maxLength, reserve, bay);
      const cache = fork ?? this.#cache.open(maxLength, reserve, bay); // a fork may want more pages in memory
      if (!cache) throw internalError(`sequence ${sequence.request.id} does not fit the room that it left`);
      sequence.begin(cache);
      await this.keep(sequence, sequence.shared);
    }
  }

  /** Keeps the first `length` tokens of a sequence for others to come, if there is room. What was used longest ago goes. */
  async keep({ tokens, cache }: Sequence, length: number): Promise<void> {
    if (length < LEAST_SHARED || this.#cache.shareOf([cache]) > KEPT_SHARE) return;
    const prefix = tokens.subarray(0, length);
    const least = Math.max(LEAST_SHARED, length - LEAST_SHARED + 1);
    const known = this.#kept.find((source) => commonLength(source, prefix, least) > 0);
    const kept = known ?? (await this.#fork(cache, prefix));
    if (!kept) return;
    this.#kept = [...this.#kept.filter((other) => other !== kept), kept];
    while (this.#kept.length > MOST_KEPT || this.#cache.shareOf(this.#kept.map((each) => each.cache)) > KEPT_SHARE)
      this.#kept.shift()!.cache[Symbol.dispose]();
  }

  /** The last sequence in flight leaves its prompt behind, for there is nobody else to share it with the next one. */
  async keepLast(sequence: Sequence): Promise<void> {
    const { shared, maxLength, tokens, cache } = sequence;
    if (shared === 0 && maxLength <= this.#longest && cache.reaches(tokens.length)) await this.keep(sequence, tokens.length);
  }

  /** Whether anything is kept. */
  get keeps(): boolean {
    return this.#kept.length > 0;
  }

  /** Gives all pages back that are kept. */
  clear(): void {
    for (const { cache } of this.#kept.splice(0)) cache[Symbol.dispose]();
  }

  /** The longest beginning that a request shares with what is kept or in flight; of about equal ones that which is there. Its last token is computed in any case. */
  #find({ tokens, sampling }: SequenceRequest, maxLength: number, running: readonly Sequence[]): SharedPrefix | undefined {
    if (maxLength > this.#longest || sampling.promptLogprobs !== undefined) return undefined; // every token is scored
    const prompt = tokens.subarray(0, -1);
    const leaders = running.filter((other) => !other.awaits && other.maxLength <= this.#longest);
    let best: SharedPrefix | undefined;
    for (const source of [...this.#kept.toReversed(), ...leaders]) {
      const length = commonLength(source, prompt, (best?.length ?? 0) + LEAST_SHARED);
      if (length > 0) best = { source, length };
    }
    return best;
  }

  async #fork(cache: Sequence['cache'], tokens: Int32Array): Promise<PrefixSource | undefined> {
    const fork = await this.#cache.fork(cache, tokens.length, tokens.length);
    return fork && { tokens, cache: fork, computed: tokens.length };
  }
}

/** How many of the first tokens are those of `source` and can be had of it; 0 if it is less than `least`. */
function commonLength({ tokens, cache, computed }: PrefixSource, prompt: Int32Array, least: number): number {
  const end = Math.min(tokens.length, prompt.length);
  if (end < least || tokens[least - 1] !== prompt[least - 1]) return 0;
  let length = 0;
  while (length < end && tokens[length] === prompt[length]) length++;
  const isThere = computed < length ? !cache.isOnDisk(computed) : cache.reaches(length);
  return length >= least && isThere ? length : 0;
}
