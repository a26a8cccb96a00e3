import type { StreamDecoder } from '../tokenizer/detokenizer.ts';

/** Text of one row as its tokens come: whole characters only, and nothing that may be the beginning of a stop string. */
export class TextTracker {
  readonly #decoder: StreamDecoder | undefined;
  readonly #stops: readonly string[];
  #text = '';
  #held = '';
  #stopped = false;

  /** Without a decoder, for a model without tokenizer, all text is empty. */
  constructor(decoder: StreamDecoder | undefined, stops: readonly string[]) {
    this.#decoder = decoder;
    this.#stops = stops;
  }

  /** All text so far that is final. */
  get text(): string {
    return this.#text;
  }

  /** A stop string was found; the text ends before it. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** @returns text that has become final by this token */
  push(id: number): string {
    return this.#take(this.#decoder?.push(id) ?? '');
  }

  /** No token comes any more. @returns what was held back */
  end(): string {
    const text = this.#take(this.#decoder?.end() ?? '');
    if (this.#stopped) return text;
    const rest = this.#held;
    this.#held = '';
    this.#text += rest;
    return text + rest;
  }

  #take(text: string): string {
    if (this.#stopped) return '';
    const all = this.#held + text;
    const found = this.#stops.map((stop) => all.indexOf(stop)).filter((index) => index >= 0);
    this.#stopped = found.length > 0;
    const end = this.#stopped ? Math.min(...found) : all.length - this.#possibleStop(all);
    this.#held = this.#stopped ? '' : all.slice(end);
    const final = all.slice(0, end);
    this.#text += final;
    return final;
  }

  /** Length of the longest end of `text` that a stop string begins with. */
  #possibleStop(text: string): number {
    const longest = Math.max(0, ...this.#stops.map((stop) => stop.length - 1));
    for (let length = Math.min(longest, text.length); length > 0; length--) {
      const end = text.slice(text.length - length);
      if (this.#stops.some((stop) => stop.startsWith(end))) return length;
    }
    return 0;
  }
}
