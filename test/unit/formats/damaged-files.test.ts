import { describe, expect, it } from 'vitest';
import { makeSamples, mutate, readDamaged, type Sample, seededRandom } from '../../helpers/mutate-file.ts';

const FILES = 150;

describe('damaged files', () => {
  it.each(makeSamples().map((sample) => [sample.name, sample] as const))('%s is read or refused, nothing else', async (_name, sample) => {
    expect(await readDamaged(sample, sample.bytes)).toBe(false);
    let refused = 0;
    for (let seed = 0; seed < FILES; seed++) {
      if (await readDamaged(sample, mutate(sample.bytes, seededRandom(seed)))) refused++;
    }
    expect(refused).toBeGreaterThan(FILES / 4);
  });

  const held: Uint8Array[] = [];
  it.each<[string, Sample['read'], RegExp]>([
    ['other errors', () => Promise.reject(new TypeError('x is undefined')), /x is undefined/],
    ['memory', async () => (held.push(new Uint8Array(64 << 20)), []), /took \d+ bytes for a file of 10/],
  ])('the promise is checked: %s', async (_what, read, message) => {
    await expect(readDamaged({ name: 'x', bytes: new Uint8Array(0), read }, new Uint8Array(10))).rejects.toThrow(message);
  });
});
