import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import { type ConformanceTolerance, lonelyRow } from '../helpers/bench.ts';
import { describeDeviceConformance } from '../helpers/device-conformance.ts';
import { gpuLibraryFolder } from '../helpers/gpu-library.ts';
import { Scope, upload } from '../helpers/tensors.ts';

const folder = gpuLibraryFolder();
if (folder !== undefined) process.env['FLEXLLMGEN_GGML_DIR'] = folder;

/** As on the CPU: f32 sums in another order; half a step of bf16 in each product; attention to f16 rounds its weights to f16. */
const TOLERANCE: ConformanceTolerance = { exact: 1e-5, roundedWeights: 2e-2, f16Cache: 2e-3, reluHidesNaN: true };

const open = () => openGgmlDevice({ backend: 'vulkan', threads: 1, exact: true });

describe.skipIf(folder === undefined)('on a Vulkan device', () => {
  describeDeviceConformance('ggml vulkan', open, TOLERANCE);

  it('is a GPU by another name', async () => {
    await using device = await open();
    expect(device.name).toMatch(/^ggml vulkan, .+/);
    expect(device.tier).toBe('gpu');
  });

  it('refuses an op that the backend lacks, by its name, and goes on', async () => {
    await using device = await open();
    const scope = new Scope();
    // The backend attends to heads of a multiple of 8 only.
    const heads = { heads: 1, kvHeads: 1, headDim: 12, scale: 1 };
    const [x, keys, values] = [
      await upload(device, scope, { shape: [1, 12], values: new Float32Array(12) }),
      await upload(device, scope, { shape: [128, 12], values: new Float32Array(128 * 12) }),
      await upload(device, scope, { shape: [128, 12], values: new Float32Array(128 * 12) }),
    ];
    const rows = [lonelyRow([1], 0, [1])];
    const batch = scope.add(device.createBatch(rows));
    await batch.write(rows);
    const graph = new GraphBuilder('narrow', 1);
    const loaded = graph.load(x);
    graph.store(graph.attention(loaded, loaded, loaded, { keys, values }, heads), x);
    const program = scope.add(device.compile(graph.finish(), batch));
    await expect(device.run(program)).rejects.toThrow(/does not compute op FLASH_ATTN_EXT of graph narrow/);
    const simple = new GraphBuilder('simple', 1);
    simple.store(simple.load(x), x);
    await device.run(scope.add(device.compile(simple.finish())));
    scope.close();
    expect(device.memory().usedBytes).toBe(0);
  });

  it('takes back tensors that outlive it', async () => {
    const device = await open();
    const tensor = device.allocate('t', 'f32', [1000]);
    await device[Symbol.asyncDispose]();
    tensor[Symbol.dispose]();
    expect(device.memory().usedBytes).toBe(0);
  });
});
