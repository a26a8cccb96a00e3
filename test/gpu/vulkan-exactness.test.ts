import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import { gpuLibraryFolder } from '../helpers/gpu-library.ts';
import { naiveLinear } from '../helpers/naive-ops.ts';
import { download, randomNumbers, Scope, upload, uploadWeight } from '../helpers/tensors.ts';

const folder = gpuLibraryFolder();
if (folder !== undefined) process.env['FLEXLLMGEN_GGML_DIR'] = folder;

/** Rounds to f16, 11 bits, both factors of each of 64 products of at most 1. */
const F16_ERROR = 64 * 2 ** -11;
/** What the conformance suite asks of exact devices. */
const F32_ERROR = 1e-5;

const SHAPE = { rows: 32, inputs: 64, outputs: 32 };

// In a file, that is a process, of its own: how ggml's Vulkan backend rounds is settled when it starts.
describe.skipIf(folder === undefined)('a Vulkan device that need not be exact', () => {
  it('rounds f32 to f16, and refuses to be exact later', async () => {
    await using device = await openGgmlDevice({ backend: 'vulkan', threads: 1 });
    const scope = new Scope();
    const [xs, ws] = [randomNumbers(1, SHAPE.rows * SHAPE.inputs), randomNumbers(2, SHAPE.outputs * SHAPE.inputs)];
    const x = await upload(device, scope, { shape: [SHAPE.rows, SHAPE.inputs], values: xs });
    const weight = await uploadWeight(device, scope, { shape: [SHAPE.outputs, SHAPE.inputs], values: ws });
    const out = scope.add(device.allocate('out', 'f32', [SHAPE.rows, SHAPE.outputs]));
    const graph = new GraphBuilder('product', SHAPE.rows);
    graph.store(graph.linear(graph.load(x), weight), out);
    await device.run(scope.add(device.compile(graph.finish())));
    const got = await download(device, out);
    const error = Math.max(...naiveLinear(xs, ws, SHAPE).map((y, i) => Math.abs(y - got[i]!)));
    scope.close();
    expect(error).toBeLessThan(F16_ERROR);
    expect(error).toBeGreaterThan(F32_ERROR);
    await expect(openGgmlDevice({ backend: 'vulkan', threads: 1, exact: true })).rejects.toThrow(/compute f32/);
  });
});
