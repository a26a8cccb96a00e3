/** A plain writer of GGUF version 3 for tests: float tensors, alignment 32. */
export type MetadataValue =
  | { readonly type: 'u32' | 'f32'; readonly value: number }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string };

export interface FloatTensor {
  readonly name: string;
  /** Outermost dimension first. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

const ALIGNMENT = 32;
const TYPE_IDS = { u32: 4, f32: 6, bool: 7, string: 8 } as const;

export function writeFloatGguf(metadata: readonly (readonly [string, MetadataValue])[], tensors: readonly FloatTensor[]): Buffer {
  let offset = 0;
  const infos = tensors.map(({ name, shape, values }) => {
    const start = offset;
    offset += pad(values.byteLength);
    return Buffer.concat([text(name), u32(shape.length), ...shape.toReversed().map(u64), u32(0), u64(start)]);
  });
  const head = Buffer.concat([
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(metadata.length),
    ...metadata.map(([key, value]) => Buffer.concat([text(key), u32(TYPE_IDS[value.type]), valueBytes(value)])),
    ...infos,
  ]);
  const data = tensors.map(({ values }) => padded(Buffer.from(values.buffer, values.byteOffset, values.byteLength)));
  return Buffer.concat([padded(head), ...data]);
}

function valueBytes({ type, value }: MetadataValue): Buffer {
  if (type === 'string') return text(value);
  if (type === 'bool') return Buffer.from([value ? 1 : 0]);
  const bytes = Buffer.alloc(4);
  if (type === 'u32') bytes.writeUInt32LE(value);
  else bytes.writeFloatLE(value);
  return bytes;
}

const u32 = (value: number): Buffer => valueBytes({ type: 'u32', value });

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)]);
const pad = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(pad(bytes.length) - bytes.length)]);
