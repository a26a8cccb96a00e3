import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromBytes } from '../../../src/formats/byte-source.ts';
import type { GgufValue } from '../../../src/formats/gguf/gguf-metadata.ts';
import { readGguf } from '../../../src/formats/gguf/gguf-reader.ts';
import type { GgufDtype } from '../../../src/formats/gguf/gguf-types.ts';
import { encodeGgufHeader, type GgufContent, type GgufEntry } from '../../../src/formats/gguf/gguf-writer.ts';

const FIXTURE = path.join(import.meta.dirname, '../../fixtures/gguf/llama-q8_0.gguf');

const ENTRIES: Readonly<Record<string, GgufEntry>> = {
  'general.architecture': { type: 'string', value: 'tiny' },
  u8: { type: 'u8', value: 255 },
  i8: { type: 'i8', value: -128 },
  u16: { type: 'u16', value: 65_535 },
  i16: { type: 'i16', value: -32_768 },
  u32: { type: 'u32', value: 2 ** 32 - 1 },
  i32: { type: 'i32', value: -(2 ** 31) },
  u64: { type: 'u64', value: 2n ** 64n - 1n },
  i64: { type: 'i64', value: -5 },
  f32: { type: 'f32', value: 0.5 },
  f64: { type: 'f64', value: 0.1 },
  bool: { type: 'bool', value: true },
  strings: { type: 'string[]', value: ['', 'naïve', '\u{feff}🙂'] },
  bools: { type: 'bool[]', value: [true, false] },
  scores: { type: 'f32[]', value: [-1.5, 0] },
  types: { type: 'i32[]', value: [1, -1] },
  large: { type: 'i64[]', value: [-(2n ** 63n), 1] },
  none: { type: 'u8[]', value: [] },
};

const TENSORS = [
  { name: 'token_embd.weight', dtype: 'Q4_K', shape: [3, 256] },
  { name: 'blk.0.ffn_gate_exps.weight', dtype: 'Q8_0', shape: [2, 3, 32] },
  { name: 'scalar', dtype: 'F32', shape: [] },
  { name: 'blk.0.attn_norm.weight', dtype: 'BF16', shape: [5] },
] as const;

const content = (extra: Partial<GgufContent> = {}): GgufContent => ({
  metadata: new Map(Object.entries(ENTRIES)),
  tensors: TENSORS,
  ...extra,
});

async function reread(what: GgufContent) {
  const { header, offsets, totalBytes } = encodeGgufHeader(what);
  const bytes = new Uint8Array(totalBytes);
  bytes.set(header);
  return { ...(await readGguf(fromBytes('m.gguf', bytes))), offsets, totalBytes, header };
}

describe('encodeGgufHeader', () => {
  it.each([undefined, 32, 64])('is read as it was meant, alignment %s', async (alignment) => {
    const { metadata, entries, offsets, header, totalBytes, ...read } = await reread(content(alignment === undefined ? {} : { alignment }));
    const expected = new Map(Object.entries(ENTRIES).map(([key, { value }]) => [key, value]));
    // What fits a number exactly is read as one.
    expected.set('large', [-(2n ** 63n), 1]);
    if (alignment !== 32) expected.set('general.alignment', alignment ?? 4096);
    expect([...metadata]).toEqual([...expected]);
    expect(entries).toMatchObject(TENSORS.map((tensor, i) => ({ ...tensor, start: offsets[i] })));
    expect(entries.map(({ byteLength }) => byteLength)).toEqual([3 * 144, 6 * 34, 4, 10]);
    expect(read.alignment).toBe(alignment ?? 4096);
    expect([header.length, totalBytes, ...offsets].map((bytes) => bytes % read.alignment)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(offsets[0]).toBe(header.length);
  });

  it('gives the bytes that other software wrote, from what that file says', async () => {
    const original = readFileSync(FIXTURE);
    const { metadata, entries } = await readGguf(fromBytes('m', original));
    const typed = new Map([...metadata].map(([key, value]) => [key, typeOf(key, value)]));
    const tensors = entries.map(({ name, dtype, shape }) => ({ name, dtype: dtype as GgufDtype, shape }));
    const { header, offsets, totalBytes } = encodeGgufHeader({ metadata: typed, tensors, alignment: 32 });
    expect(Buffer.compare(header, original.subarray(0, header.length))).toBe(0);
    expect([offsets[0], totalBytes]).toEqual([header.length, original.length]);
  });

  it('gives the same bytes for the same content, and a header alone for a vocabulary', async () => {
    expect(encodeGgufHeader(content())).toEqual(encodeGgufHeader(content()));
    const tokens = Array.from({ length: 20_000 }, (_, i) => `token ${i}`);
    const metadata = new Map<string, GgufEntry>([['tokens', { type: 'string[]', value: tokens }]]);
    const { metadata: read, header, totalBytes } = await reread({ metadata, tensors: [] });
    expect(read.get('tokens')).toEqual(tokens);
    expect(totalBytes).toBe(header.length);
  });

  const put = (entry: unknown, key = 'k'): Partial<GgufContent> => ({ metadata: new Map([[key, entry as GgufEntry]]) });
  const tensor = (facts: object): Partial<GgufContent> => ({
    tensors: [{ name: 'a', dtype: 'F32', shape: [2], ...facts }],
  });
  it.each<[string, Partial<GgufContent>, RegExp]>([
    ['a number too large', put({ type: 'u32', value: 2 ** 32 }), /metadata k: 4294967296 is no u32/],
    ['a number below zero', put({ type: 'u8', value: -1 }), /metadata k: -1 is no u8/],
    ['a fraction', put({ type: 'i32', value: 1.5 }), /metadata k: 1\.5 is no i32/],
    ['an integer beyond exact numbers', put({ type: 'u64', value: 1e20 }), /metadata k: 100000000000000000000 is no u64/],
    ['text for a number', put({ type: 'f32', value: '1' }), /metadata k: 1 is no f32/],
    ['a missing value', put({ type: 'string' }), /metadata k: undefined is no string/],
    ['one value for several', put({ type: 'i32[]', value: 1 }), /metadata k: i32\[\] expected, got number/],
    ['a wrong element', put({ type: 'bool[]', value: [true, 1] }), /metadata k: 1 is no bool/],
    ['an empty key', put({ type: 'u8', value: 1 }, ''), /a key of 0 bytes/],
    ['a key too long', put({ type: 'u8', value: 1 }, 'é'.repeat(40_000)), /a key of 80000 bytes/],
    ['an alignment in the metadata', put({ type: 'u32', value: 32 }, 'general.alignment'), /it is written from the alignment/],
    ['a bad alignment', { alignment: 48 }, /alignment 48: a power of two/],
    ['an alignment of 4', { alignment: 4 }, /alignment 4: a power of two from 8/],
    ['a tensor twice', { tensors: [TENSORS[2], TENSORS[2]] }, /tensor scalar: stands twice/],
    ['a name that ggml has no room for', tensor({ name: 'é'.repeat(32) }), /name of 64 bytes, 1 to 63 expected/],
    ['five dimensions', tensor({ shape: [1, 1, 1, 1, 1] }), /tensor a: bad shape \[1, 1, 1, 1, 1\]/],
    ['no elements', tensor({ shape: [0, 2] }), /tensor a: bad shape \[0, 2\]/],
    ['broken blocks', tensor({ dtype: 'Q4_K', shape: [256, 32] }), /tensor a: rows of 32 elements, Q4_K has blocks of 256/],
  ])('refuses %s', (_what, extra, message) => {
    expect(() => encodeGgufHeader(content(extra))).toThrow(message);
  });
});

/** The types that the fixture has. */
function typeOf(key: string, value: GgufValue): GgufEntry {
  if (key === 'tokenizer.ggml.tokens') return { type: 'string[]', value: value as string[] };
  if (key === 'tokenizer.ggml.scores') return { type: 'f32[]', value: value as number[] };
  if (key === 'tokenizer.ggml.token_type') return { type: 'i32[]', value: value as number[] };
  if (typeof value === 'number') return { type: /freq_base|epsilon/.test(key) ? 'f32' : 'u32', value };
  return typeof value === 'boolean' ? { type: 'bool', value } : { type: 'string', value: String(value) };
}
