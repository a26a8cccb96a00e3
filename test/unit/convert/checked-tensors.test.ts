import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { checkedTensors } from '../../../src/convert/checked-tensors.ts';
import { CHECKSUM_KEYS } from '../../../src/convert/checksums.ts';
import { fromBytes } from '../../../src/formats/byte-source.ts';
import type { StoredTensor } from '../../../src/formats/tensor-entry.ts';
import { crcHex } from '../../../src/util/crc32.ts';
import { randomNumbers } from '../../helpers/tensors.ts';

const START = 5;
const BYTES = 4000;

const file = Uint8Array.from({ length: START + BYTES + 3 }, (_, i) => i * 7);
const SUM = `F32 ${crcHex(crc32(file.subarray(START, START + BYTES)))}`;

/** The tensor's file, with one byte changed if `damage` says which. */
function open(damage?: number, checksums: unknown = [SUM]) {
  const bytes = file.slice();
  if (damage !== undefined) bytes[START + damage]! ^= 16;
  const entry: StoredTensor = {
    name: 'w',
    dtype: 'F32',
    shape: [BYTES / 4],
    start: START,
    byteLength: BYTES,
    source: fromBytes('model.gguf', bytes),
  };
  const entries = checkedTensors(new Map([[CHECKSUM_KEYS.crc32, checksums as string[]]]), new Map([['w', entry]]));
  return { source: entries.get('w')!.source, bytes, entry };
}

/** Bounds of pieces in a random order. */
function pieces(seed: number, count: number): [number, number][] {
  const numbers = randomNumbers(seed, 2 * count);
  const cuts = [...new Set([0, BYTES, ...numbers.subarray(0, count).map((x) => Math.floor(((x + 1) / 2) * BYTES))])].sort((a, b) => a - b);
  const all = cuts.slice(1).map((to, i): [number, number] => [cuts[i]!, to]);
  return all
    .map((piece, i) => [piece, numbers[count + i] ?? 0] as const)
    .sort((a, b) => a[1] - b[1])
    .map(([piece]) => piece);
}

const DAMAGED = /^model\.gguf: is damaged: its bytes have the CRC-32 [0-9a-f]{8}, [0-9a-f]{8} were written$/;

describe('checkedTensors', () => {
  it('gives the bytes of a sound file, in any pieces, as often as they are read', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { source } = open();
      for (let round = 0; round < 2; round++)
        for (const [from, to] of pieces(seed + round, seed)) {
          const target = new Uint8Array(to - from);
          await source.read(START + from, target);
          expect(target).toEqual(file.slice(START + from, START + to));
        }
    }
  });

  it('tells a changed byte with the last piece, and does not read on', async () => {
    for (let seed = 1; seed <= 30; seed++) {
      const { source } = open((seed * 997) % BYTES);
      const all = pieces(seed, seed);
      for (const [from, to] of all.slice(0, -1)) await source.read(START + from, new Uint8Array(to - from));
      const [from, to] = all.at(-1)!;
      await expect(source.read(START + from, new Uint8Array(to - from))).rejects.toThrow(DAMAGED);
    }
  });

  it('counts no byte twice', async () => {
    const { source } = open(1500);
    for (const [from, to] of [
      [0, 2000],
      [0, 2000],
      [1000, 3000],
      [500, 600],
    ])
      await source.read(START + from!, new Uint8Array(to! - from!));
    await expect(source.read(START + 2000, new Uint8Array(2000))).rejects.toThrow(DAMAGED);
  });

  it('checks no bytes that failed to be read', async () => {
    const { source } = open();
    await expect(source.read(START, new Uint8Array(2 * BYTES))).rejects.toThrow(/bytes 5 to 8005 asked for/);
    await source.read(START, new Uint8Array(BYTES));
  });

  it.each([
    ['no list', null],
    ['a list of another length', [SUM, SUM]],
    ['checksums of another type, as programs leave them that write tensors anew', [SUM.replace('F32', 'F16')]],
    ['something else', [7]],
  ])('reads without checks where there is %s', async (_what, checksums) => {
    const { source, entry } = open(0, checksums);
    expect(source).toBe(entry.source);
    await source.read(START, new Uint8Array(BYTES));
  });
});
