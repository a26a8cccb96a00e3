import { fileURLToPath } from 'node:url';
import { openFile } from '../../src/formats/byte-source.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import type { LayerInputs, Model } from '../../src/models/model.ts';
import { type BatchRow, type Device, PAGE_POSITIONS, type Weight } from '../../src/tensor/device.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import { download, Scope, upload } from './tensors.ts';

/**
 * Runs one prompt through a model's layers, without the engine: the log-probability of every token but the first, given the ones
 * before. The file has f32 weights.
 */
export async function promptLogprobs(device: Device, model: Model, weightsFile: URL, prompt: readonly number[]): Promise<number[]> {
  const scope = new Scope();
  try {
    const weights = await loadWeights(device, scope, model, weightsFile);
    const logits = await runLayers(device, scope, model, weights, prompt);
    const width = model.vocabularySize;
    return prompt.slice(1).map((id, i) => logSoftmaxAt(logits.subarray(i * width, (i + 1) * width), id));
  } finally {
    scope.close();
  }
}

async function loadWeights(device: Device, scope: Scope, model: Model, file: URL): Promise<Map<string, Weight>> {
  const source = await openFile(fileURLToPath(file));
  try {
    const entries = new Map((await readSafetensors(source)).map((entry) => [entry.name, entry]));
    const weights = new Map<string, Weight>();
    for (const { name, shape, sources } of model.layers.flatMap((layer) => layer.weights)) {
      if (weights.has(name)) continue;
      const entry = sources.map((wanted) => entries.get(wanted)).find((found) => found !== undefined);
      if (!entry || entry.dtype !== 'F32' || entry.shape.join() !== shape.join())
        throw new Error(`${name}: no f32 [${shape.join()}] in the file`);
      const bytes = new Uint8Array(entry.byteLength);
      await source.read(entry.start, bytes);
      const tensor = scope.add(device.allocate(name, 'f32', shape));
      await device.write(tensor, 0, bytes);
      weights.set(name, { name, shape, segments: [{ from: 0, to: shape[0]!, layout: 'gguf', home: device.tier, tensor }] });
    }
    return weights;
  } finally {
    await source[Symbol.asyncDispose]();
  }
}

async function runLayers(device: Device, scope: Scope, model: Model, weights: ReadonlyMap<string, Weight>, prompt: readonly number[]) {
  const count = prompt.length;
  const pageCount = Math.ceil(count / PAGE_POSITIONS);
  const rows: BatchRow[] = [
    { tokens: Int32Array.from(prompt), start: 0, pages: Array.from({ length: pageCount }, (_, i) => pageCount - i) },
  ];
  const batch = scope.add(device.createBatch(rows));
  await batch.write(rows);
  const hidden = scope.add(device.allocate('hidden', 'f32', [count, model.hiddenSize]));
  const logits = scope.add(device.allocate('logits', 'f32', [count, model.vocabularySize]));
  const ids = await upload(device, scope, { dtype: 'i32', shape: [count], values: prompt.map((_, i) => i) });
  for (const [index, layer] of model.layers.entries()) {
    const isLast = index === model.layers.length - 1;
    const graph = new GraphBuilder(layer.name, count);
    const inputs: LayerInputs = {
      weights: new Map(layer.weights.map(({ name }) => [name, weights.get(name)!])),
      ...(index > 0 && { hidden: isLast ? graph.select(hidden, ids) : graph.load(hidden) }),
      ...(layer.attends && { cache: newCache(device, scope, model, pageCount + 1) }),
    };
    graph.store(layer.build(graph, inputs), isLast ? logits : hidden);
    await device.run(scope.add(device.compile(graph.finish(), batch)));
  }
  return await download(device, logits);
}

function newCache(device: Device, scope: Scope, { kvHeads, headDim }: Model, pages: number) {
  const shape = [pages * PAGE_POSITIONS, kvHeads * headDim];
  return { keys: scope.add(device.allocate('keys', 'f32', shape)), values: scope.add(device.allocate('values', 'f32', shape)) };
}

function logSoftmaxAt(logits: Float32Array, id: number): number {
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const total = logits.reduce((sum, logit) => sum + Math.exp(logit - highest), 0);
  return logits[id]! - highest - Math.log(total);
}
