import { describe, expect, it } from 'vitest';
import type { PlannedWeight } from '../../../src/weights/weight-plan.ts';
import { WeightUploader } from '../../../src/weights/weight-uploader.ts';
import { makeFakeDevice } from '../../helpers/fake-device.ts';
import { randomNumbers } from '../../helpers/tensors.ts';

const ELEMENTS = 64;

/** Of bf16, so that it passes through a staging buffer; every element is the weight's number. */
function numberedWeight(number: number, waits: number): PlannedWeight {
  const bits = new Uint16Array(new Float32Array([number]).buffer)[1]!;
  const name = `w${number}`;
  return {
    spec: { name, shape: [ELEMENTS], role: 'matrix', sources: [name] },
    source: {
      dtype: 'bf16',
      read: async (_first, target) => {
        new Uint16Array(target.buffer, target.byteOffset, target.byteLength / 2).fill(bits);
        await new Promise((resolve) => setTimeout(resolve, waits));
      },
    },
    deviceType: 'f32',
    byteLength: 4 * ELEMENTS,
  };
}

describe('uploads that overlap', () => {
  it('do not mix what they read', async () => {
    const device = makeFakeDevice();
    const waits = [...randomNumbers(5, 120)].map((x) => Math.round(2 * x + 2));
    const weights = waits.map((ms, i) => numberedWeight(i + 1, ms));
    const uploader = new WeightUploader(device, weights);
    const uploadAll = async (some: readonly PlannedWeight[]): Promise<void> => {
      const done: Promise<unknown>[] = [];
      for (const weight of some) {
        const tensor = device.allocate(weight.spec.name, 'f32', weight.spec.shape);
        done.push(
          (
            await uploader.upload(
              { rows: { weight, from: 0, to: ELEMENTS, byteLength: weight.byteLength, placedBytes: weight.byteLength }, tensor },
              () => {},
            )
          ).done,
        );
      }
      await Promise.all(done);
    };
    await Promise.all([0, 40, 80].map((first) => uploadAll(weights.slice(first, first + 40))));
    const numbers = weights.flatMap(({ spec }) => [...new Set(new Float32Array(device.contents(spec.name).buffer))]);
    expect(numbers).toEqual(weights.map((_, i) => i + 1));
  });
});
