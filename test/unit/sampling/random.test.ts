import { describe, expect, it } from 'vitest';
import { philox4x32, uniform } from '../../../src/sampling/random.ts';

const words = (text: string) => text.split(' ').map((word) => Number.parseInt(word, 16));

describe('philox4x32', () => {
  // Random123 1.14.0, tests/kat_vectors, the lines `philox4x32 10`: counter, key, result.
  it.each([
    ['00000000 00000000 00000000 00000000', '00000000 00000000', '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    ['ffffffff ffffffff ffffffff ffffffff', 'ffffffff ffffffff', '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    ['243f6a88 85a308d3 13198a2e 03707344', 'a4093822 299f31d0', 'd16cfe09 94fdcceb 5001e420 24126ea1'],
  ])('gives the published answer for counter %s, key %s', (counter, key, result) => {
    const [c0, c1, c2, c3] = words(counter) as [number, number, number, number];
    const [k0, k1] = words(key) as [number, number];
    expect(philox4x32([c0, c1, c2, c3], [k0, k1])).toEqual(words(result));
  });
});

describe('uniform', () => {
  it('is made of the first two words of the block', () => {
    // 27 bits of 6627e8d5, then 26 bits of e169c58d.
    expect(uniform(0, 0, 0) * 2 ** 53).toBe(3594291088041750);
  });

  it.each([
    ['position', (i: number) => uniform(7, 3, i)],
    ['key', (i: number) => uniform(7, i, 3)],
    ['seed', (i: number) => uniform(i, 7, 3)],
  ])('is uniform in [0, 1) and without serial correlation along the %s', (_what, at) => {
    const count = 100_000;
    const bins = Array.from({ length: 100 }, () => 0);
    let products = 0;
    let outside = 0;
    for (let i = 0; i < count; i++) {
      const u = at(i);
      if (!(u >= 0 && u < 1)) outside++;
      bins[Math.floor(u * 100)]!++;
      products += (u - 0.5) * (at(i + 1) - 0.5);
    }
    expect(outside).toBe(0);
    const chiSquare = bins.reduce((sum, n) => sum + (n - count / 100) ** 2 / (count / 100), 0);
    // 99 degrees of freedom: 0.1 % above 148, 0.1 % below 60.
    expect(chiSquare).toBeLessThan(149);
    expect(chiSquare).toBeGreaterThan(60);
    // Standard deviation of the correlation is 1 / sqrt(count).
    expect(Math.abs((products * 12) / count)).toBeLessThan(4 / Math.sqrt(count));
  });

  it('differs in each of seed, key and position', () => {
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) seen.add(uniform(i % 10, Math.floor(i / 10) % 10, Math.floor(i / 100)));
    expect(seen.size).toBe(1000);
  });
});
