import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ByteSource, fromBytes } from '../../../src/formats/byte-source.ts';
import { readGguf } from '../../../src/formats/gguf/gguf-reader.ts';
import { array, f32, ggufBytes, type GgufLies, str, u32, u64, u8 } from '../../helpers/write-gguf.ts';

const FIXTURES = path.join(import.meta.dirname, '../../fixtures/gguf');
const NAMES = ['llama-f32.gguf', 'llama-q8_0.gguf'] as const;
/** As the Python package `gguf` reads the fixtures; of long arrays a digest. */
const TABLES = JSON.parse(readFileSync(path.join(FIXTURES, 'tables.json'), 'utf8'));

const read = (lies: GgufLies) => readGguf(fromBytes('m.gguf', ggufBytes(lies)));
const value = async (type: number, bytes: Uint8Array) => (await read({ keys: [['k', type, bytes]] })).metadata.get('k');

describe('readGguf', () => {
  it.each(NAMES)('reads %s as other software does', async (name) => {
    const expected = TABLES[name];
    const { version, metadata, entries, alignment, headerBytes } = await readGguf(fixture(name));
    expect({ version, alignment }).toEqual({ version: 3, alignment: expected.alignment });
    expect(Math.ceil(headerBytes / alignment) * alignment).toBe(expected.dataStart);
    expect(entries).toEqual(expected.tensors.toSorted((a: { start: number }, b: { start: number }) => a.start - b.start));
    expect(Object.fromEntries([...metadata].map(([key, v]) => [key, digest(v)]))).toEqual(expected.metadata);
  });

  it.each<[string, number, Buffer, unknown]>([
    ['u8', 0, u8(200), 200],
    ['i8', 1, u8(200), -56],
    ['u16', 2, Buffer.of(1, 255), 0xff01],
    ['i16', 3, Buffer.of(1, 255), -255],
    ['u32', 4, u32(0xfffffffe), 0xfffffffe],
    ['i32', 5, u32(0xfffffffe), -2],
    ['f32', 6, f32(0.1), Math.fround(0.1)],
    ['bool', 7, u8(1), true],
    ['string', 8, str('naïve\0'), 'naïve\0'],
    ['u64', 10, u64(2 ** 53 - 1), 2 ** 53 - 1],
    ['u64 that is no exact number', 10, u64(2n ** 64n - 1n), 2n ** 64n - 1n],
    ['i64', 11, u64(2n ** 64n - 3n), -3],
    ['f64', 12, Buffer.from(Float64Array.of(1e300).buffer), 1e300],
    ['bool[]', 9, array(7, 2, u8(0), u8(1)), [false, true]],
    ['string[]', 9, array(8, 3, str(''), str('\u{feff}a'), str('b')), ['', '\u{feff}a', 'b']],
    ['i16[]', 9, array(3, 2, Buffer.of(1, 0, 255, 255)), [1, -1]],
    ['an empty array', 9, array(6, 0), []],
    ['tokens that are no UTF-8', 9, array(8, 1, str(Buffer.of(0x61, 0xff))), ['a\u{fffd}']],
  ])('reads a value: %s', async (_what, type, bytes, expected) => {
    expect(await value(type, bytes)).toEqual(expected);
  });

  it('reads version 2, scalars, four dimensions, gaps and any order of the offsets; entries come in file order', async () => {
    const tensors = [{ name: 'late', dims: [4, 3, 2, 1], offset: 128 }, { name: 'scalar', dims: [] }, { name: 'q', dims: [32, 2], type: 2, offset: 64 }]; // prettier-ignore
    const { version, entries, headerBytes } = await read({ version: 2, tensors, data: 300 });
    const start = Math.ceil(headerBytes / 32) * 32;
    expect(version).toBe(2);
    expect(entries).toEqual([
      { name: 'scalar', dtype: 'F32', shape: [], start, byteLength: 4 },
      { name: 'q', dtype: 'Q4_0', shape: [2, 32], start: start + 64, byteLength: 36 },
      { name: 'late', dtype: 'F32', shape: [1, 2, 3, 4], start: start + 128, byteLength: 96 },
    ]);
  });

  it('counts offsets from the next multiple of general.alignment', async () => {
    const keys = [['general.alignment', 4, u32(4096)]] as const;
    const tensors = [{}, { name: 'b', offset: 4096 }];
    const { entries, alignment } = await read({ keys, tensors, alignment: 4096, data: 4104 });
    expect(alignment).toBe(4096);
    expect(entries.map(({ start }) => start)).toEqual([4096, 8192]);
  });

  it('reads a vocabulary without tensors, and no more of a long file than its header takes', async () => {
    const tokens = Array.from({ length: 30_000 }, (_, i) => `token ${i}`);
    const keys = [['tokens', 9, array(8, tokens.length, ...tokens.map(str))]] as const;
    const { entries, metadata } = await read({ keys });
    expect(entries).toEqual([]);
    expect(metadata.get('tokens')).toEqual(tokens);
    const reads: number[] = [];
    const whole = fromBytes('m.gguf', ggufBytes({ tensors: [{ dims: [1 << 22] }], data: 1 << 24 }));
    await readGguf({ ...whole, read: async (start, target) => (reads.push(target.length), whole.read(start, target)) });
    expect(reads).toEqual([65_536]);
  });

  const data = 64;
  const one = [{}];
  const key = (type: number, bytes: Uint8Array): GgufLies => ({ keys: [['k', type, bytes]] });
  it.each<[string, GgufLies, RegExp]>([
    ['another magic', { magic: 'GGML' }, /starts with 0x4c4d4747, not with "GGUF"/],
    ['version 1', { version: 1 }, /is GGUF version 1; 2 and 3 are read/],
    ['a version of the future', { version: 4 }, /is GGUF version 4/],
    ['big-endian files', { version: 0x03000000 }, /is a big-endian GGUF file/],
    ['more keys than the file has room for', { keyCount: 100 }, /metadata has 100 keys, which cannot be in the \d+ bytes that are left/],
    ['more keys than are read', { keyCount: 2n ** 63n }, /metadata has 9223372036854775808 keys, at most 65536/],
    ['more tensors than the file has room for', { tensorCount: 1000 }, /table has 1000 tensors, which cannot be/],
    ['more tensors than are read', { tensorCount: 2n ** 64n - 1n }, /table has 18446744073709551615 tensors, at most 250000/],
    ['a key too long', { keys: [['x'.repeat(70_000), 0, u8(0)]] }, /key 1 of 1 has 70000 bytes, at most 65535/],
    ['a key without name', { keys: [['', 4, u32(0)]] }, /key 1 of 1 is empty/],
    ['a key that is no UTF-8', { keys: [[Buffer.of(0xff), 0, u8(0)]] }, /key 1 of 1 is not UTF-8/],
    ['a key that stands twice', { keys: [['k', 0, u8(0)], ['k', 0, u8(1)]] }, /key "k" stands twice/], // prettier-ignore
    ['an unknown type of value', key(13, u64(0)), /key "k": unknown type 13/],
    ['a truth value of 2', key(7, u8(2)), /key "k" is 2 as a truth value/],
    ['a string longer than the file', key(8, u64(1000)), /key "k" has 1000 bytes, which cannot be in the \d+ bytes/],
    ['a string of 2^60 bytes', key(8, u64(2n ** 60n)), /key "k" has 1152921504606846976 bytes, at most/],
    ['an array of arrays', key(9, array(9, 1, array(0, 0))), /key "k" is an array of arrays/],
    ['an array of an unknown type', key(9, array(99, 1, u64(0))), /key "k": unknown type 99/],
    ['an array longer than the file', key(9, array(6, 1000)), /key "k" has 1000 elements, which cannot be/],
    ['an array of 2^60 elements', key(9, array(6, 2n ** 60n)), /key "k" has 1152921504606846976 elements, at most 8000000/],
    ['a token longer than the file', key(9, array(8, 2, str('a'), u64(500))), /key "k"\[1\] takes 500 bytes at byte \d+, \d+ are left/],
    ['a token of 2^60 bytes', key(9, array(8, 1, u64(2n ** 60n))), /key "k"\[0\] has 1152921504606846976 bytes/],
    ['a truth value of 3 in an array', key(9, array(7, 2, u8(1), u8(3))), /key "k" is 3 as a truth value/],
    ['much memory for few bytes', key(9, array(0, 1_000_001, Buffer.alloc(1_000_001))), /arrays of more than 1000000 elements of one byte/],
    ['an alignment of 0', { keys: [['general.alignment', 4, u32(0)]] }, /general\.alignment is 0; a power of two from 8/],
    ['an alignment that is no power of two', { keys: [['general.alignment', 4, u32(48)]] }, /general\.alignment is 48/],
    ['a huge alignment', { keys: [['general.alignment', 4, u32(2 ** 31)]] }, /general\.alignment is 2147483648/],
    [
      'an alignment that is huge in 64 bits',
      { keys: [['general.alignment', 10, u64(2n ** 63n)]] },
      /general\.alignment is 9223372036854775808/,
    ],
    ['an alignment that is text', { keys: [['general.alignment', 8, str('32')]] }, /general\.alignment is "32"/],
    ['a tensor without name', { tensors: [{ name: '' }], data }, /tensor 1 of 1: name is empty/],
    ['a name that is no UTF-8', { tensors: [{ name: Buffer.of(0xc0) }], data }, /tensor 1 of 1: name is not UTF-8/],
    ['a name too long', { tensors: [{ name: 'x'.repeat(2000) }], data }, /tensor 1 of 1: name has 2000 bytes, at most 1024/],
    ['a name that stands twice', { tensors: [{}, { offset: 32 }], data }, /tensor "a" stands twice/],
    ['five dimensions', { tensors: [{ dims: [1, 1, 1, 1, 2] }], data }, /tensor "a" has 5 dimensions, at most 4/],
    ['2^32 - 1 dimensions', { tensors: [{ rank: 0xffffffff }], data }, /tensor "a" has 4294967295 dimensions/],
    ['a dimension of 0', { tensors: [{ dims: [2, 0] }], data }, /tensor "a" has a dimension of 0 elements/],
    ['a dimension of 2^63', { tensors: [{ dims: [2n ** 63n] }], data }, /tensor "a" has a dimension of 9223372036854775808/],
    [
      'a product that overflows',
      { tensors: [{ dims: [2 ** 32, 2 ** 32] }], data },
      /tensor "a": shape \[4294967296, 4294967296\] has more/,
    ],
    [
      'rows that are no whole blocks',
      { tensors: [{ dims: [33, 32], type: 2 }], data },
      /tensor "a": rows of 33 elements, Q4_0 has blocks of 32/,
    ],
    ['a scalar of a block type', { tensors: [{ dims: [], type: 8 }], data }, /rows of 1 elements, Q8_0 has blocks of 32/],
    ['an unknown type', { tensors: [{ type: 43 }], data }, /tensor "a" has type 43, which is unknown/],
    ...[4, 5, 9, 15, 31, 32, 33, 36, 37, 38].map((type): [string, GgufLies, RegExp] => [
      `type ${type}, which weights do not have`,
      { tensors: [{ type }], data },
      new RegExp(`tensor "a" has type ${type}, I?Q\\w+, which (?:ggml has removed|is not for weights)`),
    ]),
    ['an offset that is not aligned', { tensors: [{ offset: 8 }], data }, /tensor "a": offset 8 is no multiple of the alignment 32/],
    ['an offset of 2^63', { tensors: [{ offset: 2n ** 63n }], data }, /tensor "a": offset 9223372036854775808 is outside/],
    ['a tensor behind the end', { tensors: [{ offset: 64 }], data }, /tensor "a" ends at byte \d+, the file at \d+; was it downloaded/],
    ['a tensor cut short', { tensors: [{ dims: [17] }], data }, /tensor "a" ends at byte \d+, the file at \d+/],
    ['overlap', { tensors: [{ dims: [9] }, { name: 'b', offset: 32 }], data }, /tensor "b" starts at byte \d+, inside the one before/],
    ['two tensors in one place', { tensors: [...one, { name: 'b' }], data }, /tensor "b" starts at byte \d+, inside/],
  ])('refuses %s', async (_what, lies, message) => {
    await expect(read(lies)).rejects.toThrow(message);
    await expect(read(lies)).rejects.toMatchObject({ code: 'format', facts: { file: 'm.gguf' } });
  });

  it('refuses a header that ends anywhere', async () => {
    const bytes = ggufBytes({ keys: [['k', 9, array(8, 2, str('abc'), str('d'))], ['n', 4, u32(1)]], tensors: one, data: 8 }); // prettier-ignore
    await expect(readGguf(fromBytes('m.gguf', bytes))).resolves.toMatchObject({ version: 3 });
    for (let length = 0; length < bytes.length; length++) {
      await expect(readGguf(fromBytes('m.gguf', bytes.subarray(0, length))), `${length} bytes`).rejects.toMatchObject({ code: 'format' });
    }
  });
});

function fixture(name: string): ByteSource {
  return fromBytes(name, readFileSync(path.join(FIXTURES, name)));
}

/** As tables.json has long arrays. */
function digest(v: unknown): unknown {
  if (!Array.isArray(v) || v.length <= 8) return v;
  if (typeof v[0] === 'string') return { length: v.length, sha256: createHash('sha256').update(JSON.stringify(v)).digest('hex') };
  return { length: v.length, first: v.slice(0, 4), sum: v.reduce((sum: number, n: number) => sum + n, 0) };
}
