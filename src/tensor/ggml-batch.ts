/** Inputs of one micro-batch for ggml. All indices are inputs, so that a graph depends on the shape of the batch only. */
import { FlexError, internalError } from '../util/errors.ts';
import type { Batch, BatchNeeds, BatchRow } from './device.ts';
import { AttentionInputs, type WriteInput, attentionKey } from './ggml-attention-inputs.ts';
import type { GgmlTensor, TensorGroup, TensorRequest } from './ggml-memory.ts';
import { isLong } from './row-batch.ts';

export type AllocateInputs = (requests: readonly TensorRequest[]) => TensorGroup;

const countTokens = (rows: readonly BatchRow[]): number => rows.reduce((sum, row) => sum + row.tokens.length, 0);

/** Equal keys have equal graphs. */
export function batchKey(rows: readonly BatchRow[], { windows = [Infinity] }: BatchNeeds = {}): string {
  return [countTokens(rows), ...windows.map((window) => attentionKey(rows, window))].join(' | ');
}

export class GgmlBatch implements Batch {
  readonly key: string;
  readonly tokenCount: number;
  readonly tokens: GgmlTensor;
  readonly positions: GgmlTensor;
  readonly #byLength: GgmlTensor | undefined;
  readonly #needs: BatchNeeds;
  readonly #attention: readonly AttentionInputs[];
  readonly #memory: TensorGroup;
  readonly #write: WriteInput;

  constructor(allocate: AllocateInputs, write: WriteInput, rows: readonly BatchRow[], needs: BatchNeeds = {}) {
    const { windows = [Infinity], lengthLimit } = needs;
    this.key = batchKey(rows, needs);
    this.tokenCount = countTokens(rows);
    const index = (name: string): TensorRequest => ({ name, dtype: 'i32', shape: [this.tokenCount] });
    const attention = windows.map((window) => AttentionInputs.requests(rows, window));
    const choice = lengthLimit === undefined ? [] : [index('by length')];
    this.#memory = allocate([index('tokens'), index('positions'), ...choice, ...attention.flat()]);
    this.#needs = needs;
    this.#write = write;
    const [tokens, positions, ...rest] = this.#memory.tensors;
    this.tokens = tokens!;
    this.positions = positions!;
    this.#byLength = lengthLimit === undefined ? undefined : rest[0]!;
    let next = choice.length;
    this.#attention = windows.map((window, i) => {
      const from = next;
      next += attention[i]!.length;
      return new AttentionInputs(rows, window, rest.slice(from, next));
    });
  }

  /** What layers with this window read. */
  attention(window = Infinity): AttentionInputs {
    const inputs = this.#attention.find((each) => each.window === window);
    if (!inputs) throw internalError(`attention with window ${window} reads a batch made for windows ${this.#needs.windows?.join(', ')}`);
    return inputs;
  }

  /** i32 [tokenCount]: rows of [short; long], where each has a row for every token. */
  byLength(limit: number): GgmlTensor {
    if (!this.#byLength || limit !== this.#needs.lengthLimit)
      throw internalError(`a choice by ${limit} positions reads a batch made for ${this.#needs.lengthLimit ?? 'none'}`);
    return this.#byLength;
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    const key = batchKey(rows, this.#needs);
    if (key !== this.key) throw new FlexError('shape', `batch ${this.key}: rows of shape ${key} written to it`);
    await this.#write(this.tokens, bytesOf(Int32Array.from(rows.flatMap((row) => [...row.tokens]))));
    await this.#write(this.positions, bytesOf(Int32Array.from(rows.flatMap((row) => Array.from(row.tokens, (_, i) => row.start + i)))));
    if (this.#byLength) {
      const choice = isLong(rows, this.#needs.lengthLimit!).map((long, token) => token + (long ? this.tokenCount : 0));
      await this.#write(this.#byLength, bytesOf(Int32Array.from(choice)));
    }
    for (const inputs of this.#attention) await inputs.write(rows, this.#write);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

const bytesOf = (array: Int32Array): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
