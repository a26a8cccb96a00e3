/** A model folder of a published shape with random weights, as large as real ones: what conversion and loading are measured with. */
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { outputTensors } from '../src/convert/output-tensors.ts';
import { PieceReader } from '../src/convert/tensor-pieces.ts';
import { dummyModelSource } from '../src/llm/model-source.ts';
import { publishedConfig } from '../src/models/opt-sizes.ts';
import { byteLengthOf, elementCount } from '../src/tensor/dtype.ts';

/** Writes `config.json` and `model.safetensors` of f16. @returns bytes of the weights */
export async function writeMadeModel(shape: string, folder: string): Promise<number> {
  const { model, weights } = dummyModelSource(shape, 'f16');
  const sources = new Map(model.layers.flatMap((layer) => layer.weights.map(({ name, sources: [first] }) => [name, first!] as const)));
  const tensors = outputTensors(model, weights);
  let bytes = 0;
  const table = tensors.map((tensor) => {
    const start = bytes;
    bytes += byteLengthOf(tensor.dtype, elementCount(tensor.shape));
    return [sources.get(tensor.name)!, { dtype: 'F16', shape: tensor.shape, data_offsets: [start, bytes] }] as const;
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(table)));
  const header = Buffer.concat([Buffer.alloc(8), json, Buffer.alloc((8 - (json.length % 8)) % 8, ' ')]);
  header.writeBigUInt64LE(BigInt(header.length - 8));
  await writeFile(join(folder, 'config.json'), JSON.stringify(publishedConfig(shape)));
  const file = await open(join(folder, 'model.safetensors'), 'w');
  try {
    await file.write(header);
    const reader = new PieceReader();
    for (const tensor of tensors) for await (const piece of reader.pieces(tensor)) await file.writeFile(piece);
    await file.sync();
  } finally {
    await file.close();
  }
  return bytes;
}
