import { describe, expect, it } from 'vitest';
import { formatBytes, formatCount, formatRate, formatSeconds } from '../../../src/util/units.ts';

describe('units', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.00 kB'],
    [10_800_000, '10.8 MB'],
    [999_499, '999 kB'],
    [999_500, '1.00 MB'],
    [24_684_092 * 1024, '25.3 GB'],
    [3.5e17, '350 PB'],
    [NaN, '-'],
  ])('%d bytes', (bytes, text) => {
    expect(formatBytes(bytes)).toBe(text);
  });

  it.each([
    [0, '0.00 s'],
    [9.994, '9.99 s'],
    [9.995, '10.0 s'],
    [59.94, '59.9 s'],
    [59.96, '1 min 00 s'],
    [245, '4 min 05 s'],
    [3599.6, '1 h 00 min'],
    [12_000, '3 h 20 min'],
    [86_400 * 2 + 3600 * 4, '2 d 04 h'],
    [Infinity, '-'],
  ])('%d seconds', (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });

  it('counts and rates', () => {
    expect([formatCount(0), formatCount(1234567.4), formatCount(NaN)]).toEqual(['0', '1,234,567', '-']);
    expect([0.4, 12.34, 99.96, 1234, Infinity].map(formatRate)).toEqual(['0.40', '12.3', '100', '1,234', '-']);
  });
});
