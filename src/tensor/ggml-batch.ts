/** Inputs of one micro-batch for ggml. All indices are inputs, so that a graph depends on the shape of the batch only. */
import { FlexError, internalError } from '../util/errors.ts';
import type { Batch, BatchRow } from './device.ts';
import { AttentionInputs, type WriteInput, attentionKey } from './ggml-attention-inputs.ts';
import type { GgmlTensor, TensorGroup, TensorRequest } from './ggml-memory.ts';

export type AllocateInputs = (requests: readonly TensorRequest[]) => TensorGroup;

const countTokens = (rows: readonly BatchRow[]): number => rows.reduce((sum, row) => sum + row.tokens.length, 0);

/** Equal keys have equal graphs. */
export function batchKey(rows: readonly BatchRow[], windows: readonly number[] = [Infinity]): string {
  return [countTokens(rows), ...windows.map((window) => attentionKey(rows, window))].join(' | ');
}

export class GgmlBatch implements Batch {
  readonly key: string;
  readonly tokenCount: number;
  readonly tokens: GgmlTensor;
  readonly positions: GgmlTensor;
  readonly #windows: readonly number[];
  readonly #attention: readonly AttentionInputs[];
  readonly #memory: TensorGroup;
  readonly #write: WriteInput;

  constructor(allocate: AllocateInputs, write: WriteInput, rows: readonly BatchRow[], windows: readonly number[] = [Infinity]) {
    this.key = batchKey(rows, windows);
    this.tokenCount = countTokens(rows);
    const index = (name: string): TensorRequest => ({ name, dtype: 'i32', shape: [this.tokenCount] });
    const attention = windows.map((window) => AttentionInputs.requests(rows, window));
    this.#memory = allocate([index('tokens'), index('positions'), ...attention.flat()]);
    this.#windows = windows;
    this.#write = write;
    const [tokens, positions, ...rest] = this.#memory.tensors;
    this.tokens = tokens!;
    this.positions = positions!;
    let next = 0;
    this.#attention = windows.map((window, i) => {
      const from = next;
      next += attention[i]!.length;
      return new AttentionInputs(rows, window, rest.slice(from, next));
    });
  }

  /** What layers with this window read. */
  attention(window = Infinity): AttentionInputs {
    const inputs = this.#attention.find((each) => each.window === window);
    if (!inputs) throw internalError(`attention with window ${window} reads a batch made for windows ${this.#windows.join(', ')}`);
    return inputs;
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    const key = batchKey(rows, this.#windows);
    if (key !== this.key) throw new FlexError('shape', `batch ${this.key}: rows of shape ${key} written to it`);
    await this.#write(this.tokens, bytesOf(Int32Array.from(rows.flatMap((row) => [...row.tokens]))));
    await this.#write(this.positions, bytesOf(Int32Array.from(rows.flatMap((row) => Array.from(row.tokens, (_, i) => row.start + i)))));
    for (const inputs of this.#attention) await inputs.write(rows, this.#write);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

const bytesOf = (array: Int32Array): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
