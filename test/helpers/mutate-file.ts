/** Seeded damage to files of weights, and the promise that every reader keeps on them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type ByteSource, fromBytes } from '../../src/formats/byte-source.ts';
import { readGguf } from '../../src/formats/gguf/gguf-reader.ts';
import { readPytorch } from '../../src/formats/pytorch.ts';
import { readTensor } from '../../src/formats/read-tensor.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import type { TensorEntry } from '../../src/formats/tensor-entry.ts';
import { parseSentencePieceModel } from '../../src/tokenizer/sentencepiece-model.ts';
import { FormatError } from '../../src/util/errors.ts';
import { array, f32, ggufBytes, str, u32, u64, u8 } from './write-gguf.ts';
import { f32Tensor, safetensorsBytes } from './write-safetensors.ts';
import { build, dict, f32Bytes, int, orderedDict, storage, tensor, torchLegacy, torchZip } from './write-pytorch.ts';

export interface Sample {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly read: (source: ByteSource) => Promise<readonly TensorEntry[]>;
}

/** A number from 0 on and below `below`. */
export type Random = (below: number) => number;

/** Seconds that one damaged file may take. */
const MAX_SECONDS = 2;
/** Memory against the file's size. */
const MAX_GROWTH = 4;

const readGgufEntries = async (source: ByteSource): Promise<readonly TensorEntry[]> => (await readGguf(source)).entries;
const readBin = async (source: ByteSource): Promise<readonly TensorEntry[]> => (await readPytorch(source)).entries;

/** No weights: the promise about errors, time and memory is the same. */
async function readPieces(source: ByteSource): Promise<readonly TensorEntry[]> {
  const bytes = new Uint8Array(source.byteLength);
  await source.read(0, bytes);
  parseSentencePieceModel(source.name, bytes);
  return [];
}

/** Small files, where most bytes say something, and those that PyTorch and safetensors wrote themselves. */
export function makeSamples(): Sample[] {
  const data = f32Bytes([0, 1, 2, 3, 4, 5]);
  const tensors = {
    a: tensor(storage('0', 6), [3, 2], [1, 3]),
    b: tensor(storage('0', 6), [3], [1], 3),
    c: tensor(storage('1', 2, { type: 'HalfStorage' }), [2]),
  };
  const object = build(dict(tensors, orderedDict()), dict({ _metadata: dict({ '': dict({ version: int(1) }) }) }));
  const storages = { '0': data, '1': [1, 2, 3, 4] };
  const fixture = (file: string): Uint8Array => readFileSync(path.join(import.meta.dirname, '../fixtures', file));
  return [
    { name: 'zip', bytes: torchZip({ object, storages }), read: readBin },
    { name: 'zip64', bytes: torchZip({ object, storages }, { zip64: true }), read: readBin },
    {
      name: 'older',
      bytes: torchLegacy({ object, storages: [['0', 6, data], ['1', 2, storages['1']]] }), // prettier-ignore
      read: readBin,
    },
    { name: 'safetensors', bytes: safetensorsBytes({ a: f32Tensor([1, 2]), b: f32Tensor([3, 4, 5, 6], [2, 2]) }), read: readSafetensors },
    { name: 'opt-bin', bytes: fixture('models/opt-bin/pytorch_model-00002-of-00002.bin'), read: readBin },
    { name: 'opt-bin-old', bytes: fixture('models/opt-bin-old/pytorch_model.bin'), read: readBin },
    { name: 'opt', bytes: fixture('models/opt/model.safetensors'), read: readSafetensors },
    { name: 'gguf', bytes: smallGguf(), read: readGgufEntries },
    { name: 'sentencepiece', bytes: fewPieces(fixture('tokenizers/llama-spm-bpe/tokenizer.model')), read: readPieces },
    { name: 'gguf-llama', bytes: fixture('gguf/llama-q8_0.gguf'), read: readGgufEntries },
  ];
}

/** The first 100 pieces and the settings: reading a piece leaves some 2 kB of garbage, which counts. */
function fewPieces(model: Uint8Array): Uint8Array {
  let at = 0;
  let kept = 0;
  for (let count = 0; model[at] === 0x0a; count++) {
    if (count === 100) kept = at;
    at += 2 + model[at + 1]!;
  }
  return join(model.subarray(0, kept), model.subarray(at));
}

/** Every kind of value, and tensors of one to four dimensions. */
function smallGguf(): Uint8Array {
  return ggufBytes({
    keys: [
      ['general.architecture', 8, str('llama')],
      ['general.alignment', 4, u32(32)],
      ['rope', 6, f32(10_000)],
      ['bos', 7, u8(1)],
      ['large', 10, u64(2n ** 63n)],
      ['tokens', 9, array(8, 4, str('a'), str('bc'), str('d'), str(''))],
      ['scores', 9, array(6, 4, f32(1, 2, 3, 4))],
      ['charsmap', 9, array(0, 8, u64(7))],
      ['flags', 9, array(7, 2, u8(0), u8(1))],
    ],
    tensors: [{}, { name: 'q', dims: [32, 2], type: 2, offset: 32 }, { name: 'e', dims: [2, 2, 2, 2], type: 1, offset: 96 }],
    data: 128,
  });
}

/** mulberry32. */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** A copy with 1 to 4 damages: flipped bytes, telling numbers, moved, lost and doubled ranges, a missing end. */
export function mutate(original: Uint8Array, random: Random): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(original);
  for (let n = 1 + random(4); n > 0 && bytes.length > 0; n--) bytes = DAMAGES[random(DAMAGES.length)]!(bytes, random);
  return bytes;
}

/**
 * Reads a damaged file: its table, and what its tensors say.
 * @returns whether it was refused. @throws {Error} when anything but a FormatError comes, or a limit is passed
 */
export async function readDamaged({ read }: Sample, bytes: Uint8Array): Promise<boolean> {
  const memory = usedMemory();
  const began = performance.now();
  const source = fromBytes('damaged', bytes);
  const refused = await readAll(source, read).then(() => false, isRefusal);
  const seconds = (performance.now() - began) / 1000;
  if (seconds > MAX_SECONDS) throw new Error(`took ${seconds} s`);
  // Everything that was allocated, garbage included, unless a collection came between: more than the peak, so a strict measure.
  const grown = usedMemory() - memory;
  if (grown > MAX_GROWTH * bytes.length + FREE_BYTES) throw new Error(`took ${grown} bytes for a file of ${bytes.length}`);
  return refused;
}

/** Code, messages and stack traces take memory too, whatever the file. */
const FREE_BYTES = 2 << 20;
/** Numbers that counts and lengths break at. */
const TELLING = [0n, 1n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn, (1n << 53n) + 1n, (1n << 63n) - 1n, (1n << 64n) - 1n]; // prettier-ignore

type Damage = (bytes: Uint8Array, random: Random) => Uint8Array;

const DAMAGES: readonly Damage[] = [
  (bytes, random) => put(bytes, place(bytes, random), [random(256)]),
  (bytes, random) => {
    const at = place(bytes, random);
    return put(bytes, at, [bytes[at]! ^ (1 << random(8))]);
  },
  (bytes, random) => {
    const at = place(bytes, random);
    return put(bytes, at, [bytes[at]! + (random(2) ? 1 : -1)]);
  },
  (bytes, random) => {
    const value = TELLING[random(TELLING.length)]!;
    const width = [1, 2, 4, 8][random(4)]!;
    return put(
      bytes,
      place(bytes, random),
      Array.from({ length: width }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn)),
    );
  },
  (bytes, random) => bytes.slice(0, random(4) ? place(bytes, random) : random(bytes.length)),
  (bytes, random) => {
    const [at, length] = range(bytes, random);
    return join(bytes.subarray(0, at), bytes.subarray(at + length));
  },
  (bytes, random) => {
    const [at, length] = range(bytes, random);
    return join(bytes.subarray(0, at + length), bytes.subarray(at));
  },
  (bytes, random) => {
    const [at, length] = range(bytes, random);
    return put(bytes, place(bytes, random), [...bytes.subarray(at, at + length)]);
  },
];

/** Mostly near the ends, where tables lie. */
function place(bytes: Uint8Array, random: Random): number {
  const near = Math.min(bytes.length, 4096);
  const where = random(5);
  if (where < 2) return random(near);
  return where < 4 ? bytes.length - 1 - random(near) : random(bytes.length);
}

function range(bytes: Uint8Array, random: Random): [at: number, length: number] {
  const at = place(bytes, random);
  return [at, Math.min(1 + random(random(2) ? 8 : 200), bytes.length - at)];
}

function put(bytes: Uint8Array, at: number, values: readonly number[]): Uint8Array {
  for (const [i, value] of values.entries()) if (at + i < bytes.length) bytes[at + i] = value;
  return bytes;
}

const join = (a: Uint8Array, b: Uint8Array): Uint8Array => Uint8Array.from(Buffer.concat([a, b]));

async function readAll(source: ByteSource, read: Sample['read']): Promise<void> {
  const target = new Uint8Array(64 << 10);
  for (const entry of await read(source)) {
    await readTensor({ ...entry, source }, 0, target.subarray(0, Math.min(entry.byteLength, target.length)));
  }
}

function isRefusal(cause: unknown): true {
  if (cause instanceof FormatError && cause.message.startsWith('damaged: ')) return true;
  throw cause;
}

function usedMemory(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
