import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import koffi from 'koffi';
import { describe, expect, it } from 'vitest';
import { REFUSED_TENSOR_TYPES, type GgufDtype, TENSOR_TYPE_IDS } from '../../src/formats/gguf/gguf-types.ts';
import { encodeGgufHeader } from '../../src/formats/gguf/gguf-writer.ts';
import { storedBytes } from '../../src/formats/tensor-entry.ts';
import { bindBase } from '../../src/native/ggml.ts';
import { findLibraryDirectory, loadLibrary } from '../../src/native/libraries.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

/** Enough for every block type. */
const COLUMNS = 256;
const DTYPES = Object.keys(TENSOR_TYPE_IDS) as GgufDtype[];

const library = loadLibrary(findLibraryDirectory('cpu'), 'ggml-base');
const base = bindBase(library);

describe('GGUF and ggml', () => {
  it('have the same types with the same sizes', () => {
    for (const [dtype, id] of Object.entries(TENSOR_TYPE_IDS) as [GgufDtype, number][]) {
      expect([id, base.typeName(id).toUpperCase()]).toEqual([id, dtype]);
      expect([dtype, rowSize(id, COLUMNS)]).toEqual([dtype, storedBytes(dtype, COLUMNS)]);
    }
  });

  it('have no type that is neither read nor refused by name', () => {
    const last = Math.max(...Object.values(TENSOR_TYPE_IDS));
    const known = new Set<number>([...Object.values(TENSOR_TYPE_IDS), ...REFUSED_TENSOR_TYPES.keys()]);
    expect(Array.from({ length: last + 1 }, (_, id) => id).filter((id) => !known.has(id))).toEqual([]);
    for (const [id, name] of REFUSED_TENSOR_TYPES) {
      const removed = /DEPRECATED|REMOVED/.test(base.typeName(id));
      expect([id, name.includes('removed')]).toEqual([id, removed]);
    }
  });

  it.each([32, 4096])('ggml reads what the writer wrote, alignment %i', async (alignment) => {
    const tensors = DTYPES.map((dtype) => ({ name: `blk.0.${dtype}`, dtype, shape: [3, COLUMNS] }));
    const { header, offsets, totalBytes } = encodeGgufHeader({
      metadata: new Map([['general.architecture', { type: 'string', value: 'llama' }]]),
      tensors,
      alignment,
    });
    await using folder = await makeTemporaryFolder();
    const path = join(folder.path, 'm.gguf');
    const bytes = new Uint8Array(totalBytes);
    bytes.set(header);
    await writeFile(path, bytes);
    const file = gguf.open(path, { no_alloc: true, ctx: null });
    expect(file).not.toBeNull();
    const start = gguf.dataOffset(file);
    expect(tensors.map((_, i) => [gguf.tensorName(file, i), gguf.tensorType(file, i), start + gguf.tensorOffset(file, i)])).toEqual(
      tensors.map(({ name, dtype }, i) => [name, TENSOR_TYPE_IDS[dtype], offsets[i]]),
    );
    gguf.free(file);
  });
});

const params = koffi.struct({ no_alloc: 'bool', ctx: 'void*' });
/** gguf.h of ggml 0.23.0. */
const gguf = {
  open: library.func('gguf_init_from_file', 'void*', ['str', params]),
  free: library.func('gguf_free', 'void', ['void*']),
  dataOffset: library.func('gguf_get_data_offset', 'size_t', ['void*']),
  tensorName: library.func('gguf_get_tensor_name', 'str', ['void*', 'int64']),
  tensorType: library.func('gguf_get_tensor_type', 'int', ['void*', 'int64']),
  tensorOffset: library.func('gguf_get_tensor_offset', 'size_t', ['void*', 'int64']),
};

/** size_t ggml_row_size(enum ggml_type type, int64_t ne); */
const rowSize = library.func('ggml_row_size', 'size_t', ['int', 'int64']) as (type: number, elements: number) => number;
