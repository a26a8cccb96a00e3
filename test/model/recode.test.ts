import { describe, expect, it } from 'vitest';
import { GGML_TYPE } from '../../src/native/ggml.ts';
import { openBase } from '../../src/native/open-ggml.ts';
import { recode } from '../../src/quant/recode.ts';
import { randomNumbers } from '../helpers/tensors.ts';

const BLOCK = 32;
const BLOCK_BYTES = 34;

describe('q8_0', () => {
  // Odd numbers of blocks, and more than one thread's share.
  it.each([1, 3, 3001])(
    '%i blocks are within half a step of the numbers, and all but a few bytes as in the reference code',
    async (blocks) => {
      const values = Float32Array.from(randomNumbers(blocks, blocks * BLOCK), (value, i) => value * 10 ** ((i >> 5) % 7) * 1e-4);
      const got = new Uint8Array(blocks * BLOCK_BYTES);
      await recode('f32', new Uint8Array(values.buffer), 'q8_0', got);
      const reference = new Uint8Array(got.length);
      openBase().quantizeChunk(GGML_TYPE.q8_0, values, reference, 0, 1, values.length, null);
      expect(got.filter((byte, i) => byte !== reference[i]).length).toBeLessThanOrEqual(1 + got.length * 1e-4);
      for (let block = 0; block < blocks; block++) {
        const part = values.subarray(block * BLOCK, (block + 1) * BLOCK);
        const step = part.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0) / 127;
        const numbers = new Int8Array(got.buffer, block * BLOCK_BYTES + 2, BLOCK);
        const worst = part.reduce((error, value, i) => Math.max(error, Math.abs(value - step * numbers[i]!)), 0);
        expect(worst).toBeLessThanOrEqual(step * 0.5001);
      }
    },
  );
});
