/** Opens a GGUF file as a model: configuration, weights and tokenizer from one place. */
import { checkedTensors } from '../convert/checked-tensors.ts';
import { FINGERPRINT_KEY, GENERATION_CONFIG_KEY, ggufMetadata } from '../convert/metadata.ts';
import { type GgufFile, openGguf } from '../formats/gguf/gguf-file.ts';
import type { GgufMetadata } from '../formats/gguf/gguf-metadata.ts';
import { type JsonObject, parseJsonObject } from '../formats/json-file.ts';
import { quote } from '../formats/quote.ts';
import { readTensor } from '../formats/read-tensor.ts';
import { ROPE_FACTOR_TENSORS } from '../models/gguf-config.ts';
import { LIMITS } from '../models/config.ts';
import { buildGgufModel } from '../models/registry.ts';
import { elementCount } from '../tensor/dtype.ts';
import { FormatError } from '../util/errors.ts';
import type { Lifetime } from '../util/lifetime.ts';
import { ggufWeights } from '../weights/gguf-weights.ts';
import { openGgufTokenizer } from './gguf-tokenizer.ts';
import type { ModelSource, SourceOptions } from './model-source.ts';
import { recommendedParams, recommendedStopIds } from './params.ts';

/** All parts of a split file are opened, and stay so as long as `lifetime`. @throws {UsageError} {FormatError} {NativeError} */
export async function openGgufSource(file: string, lifetime: Lifetime, { checksums = true }: SourceOptions = {}): Promise<ModelSource> {
  const gguf = lifetime.use(await openGguf(file));
  const { metadata, entries } = gguf;
  const model = buildGgufModel({ file, metadata, shapeOf: (name) => entries.get(name)?.shape, ropeFactors: await readRopeFactors(gguf) });
  const generationConfig = parseGenerationConfig(file, metadata);
  const text = await openGgufTokenizer(file, metadata, lifetime);
  return {
    name: file,
    model,
    weights: ggufWeights({ file, entries: checksums ? checkedTensors(metadata, entries) : entries }),
    ...(text && { tokenizer: text.tokenizer }),
    ...(text?.chatTemplate && { chatTemplate: text.chatTemplate }),
    stopIds: new Set([...model.eosTokenIds, ...(text?.endIds ?? []), ...recommendedStopIds(generationConfig)]),
    recommended: recommendedParams(generationConfig),
    fingerprint: convertedFingerprint(metadata) ?? (await gguf.fingerprint()),
    isGguf: true,
    metadata: async () => ggufMetadata(metadata, gguf.types),
  };
}

/** A converted model gives the same answers as what it was made from. */
function convertedFingerprint(metadata: GgufMetadata): string | undefined {
  const value = metadata.get(FINGERPRINT_KEY);
  return typeof value === 'string' && /^[0-9a-f]{64}(-\w+)?$/.test(value) ? value : undefined;
}

function parseGenerationConfig(file: string, metadata: GgufMetadata): JsonObject | undefined {
  const text = metadata.get(GENERATION_CONFIG_KEY);
  return typeof text === 'string' ? parseJsonObject(file, GENERATION_CONFIG_KEY, Buffer.from(text)) : undefined;
}

/** A few kilobytes that the configuration needs before any weight is read. */
async function readRopeFactors({ file, entries }: GgufFile): Promise<Map<string, readonly number[]>> {
  const factors = new Map<string, readonly number[]>();
  for (const name of ROPE_FACTOR_TENSORS) {
    const entry = entries.get(name);
    if (!entry) continue;
    const count = elementCount(entry.shape);
    if (entry.dtype !== 'F32' || count > LIMITS.headDim)
      throw new FormatError(
        file,
        `tensor ${quote(name)}: at most ${LIMITS.headDim} elements of F32 expected, got ${count} of ${entry.dtype}`,
      );
    const values = new Float32Array(count);
    await readTensor(entry, 0, new Uint8Array(values.buffer));
    factors.set(name, Array.from(values));
  }
  return factors;
}
