import { describe, expect, it } from 'vitest';
import { fromBytes } from '../../../src/formats/byte-source.ts';
import { readPytorch } from '../../../src/formats/pytorch.ts';
import {
  build,
  type Bytes,
  dict,
  f32Bytes,
  FALSE,
  global,
  int,
  ints,
  list,
  long,
  MARK,
  NONE,
  orderedDict,
  PROTO,
  reduce,
  storage,
  str,
  tensor,
  torchLegacy,
  torchParts,
  torchZip,
  tuple,
  zip,
  type ZipLies,
  type ZipPart,
} from '../../helpers/write-pytorch.ts';

const storages = { '0': f32Bytes([0, 1, 2, 3, 4, 5]) };
const STORAGE = storage('0', 6);
const GOOD = { object: dict({ a: tensor(STORAGE, [6]) }), storages };
const PARTS = torchParts(GOOD);

/** A zip file whose pickle holds `object`. */
const holding = (object: Bytes) => torchZip({ object, storages });
const repeat = (bytes: Bytes, times: number): Bytes => Array.from({ length: times }, () => bytes).flat();
/** The entries of a good file, one of them changed. */
const changed = (name: string, change: Partial<ZipPart>) =>
  zip(PARTS.map((part) => (part.name === `archive/${name}` ? { ...part, ...change } : part)));

/** The error that reading ends with. */
async function refusalOf(bytes: Uint8Array): Promise<unknown> {
  return readPytorch(fromBytes('model.bin', bytes)).catch((cause: unknown) => cause);
}

const refusal = (message: RegExp) => ({
  code: 'format',
  facts: { file: 'model.bin' },
  message: expect.stringMatching(message) as unknown,
});

describe('pickles', () => {
  it.each<[string, Bytes, RegExp]>([
    ['a system call', reduce(global('os', 'system'), tuple(str('id'))), /pickle at byte \d+: global "os\.system" is not allowed/],
    ['builtins', reduce(global('builtins', 'eval'), tuple(str('1'))), /global "builtins\.eval" is not allowed/],
    ['a global that every object has', global('constructor', 'name'), /global "constructor\.name" is not allowed/],
    ['names with dots', global('torch', '_utils._rebuild_tensor_v3'), /global "torch\._utils\._rebuild_tensor_v3" is not/],
    ['quantised storages', tensor(storage('0', 6, { type: 'QInt8Storage' }), [6]), /global "torch\.QInt8Storage" is not allowed/],
    ['a global by strings', [...str('posix'), ...str('system'), 0x93], /global "posix\.system" is not allowed/],
    ['a global by numbers', [...int(1), ...int(2), 0x93], /global of a number and a number/],
    ['control characters in a global, which it escapes', global('a\u001b[2J', 'b'), /^\P{Cc}*global "a\\u001b\[2J\.b" is not\P{Cc}*$/u],
    ['an instance', [...MARK, ...global('collections', 'OrderedDict'), 0x6f], /opcode "o" \(0x6f\) is not allowed/],
    ['NEWOBJ', [...global('collections', 'OrderedDict'), 0x29, 0x81], /opcode ".+" \(0x81\) is not allowed/],
    ['an extension', [0x82, 1], /\(0x82\) is not allowed/],
    ['protocol 0', [0x49, 0x31, 0x0a], /opcode "I" \(0x49\) is not allowed/],
    ['a call of a storage type', reduce(global('torch', 'FloatStorage'), tuple(int(1))), /calls torch\.FloatStorage, which is not allowed/],
    ['a call of a string', reduce(str('eval'), tuple()), /calls a string, which is not allowed/],
    ['a call of a tensor', reduce(tensor(STORAGE, [6]), tuple()), /calls a tensor, which is not allowed/],
    ['a call without tuple', reduce(global('collections', 'OrderedDict'), NONE), /calls collections\.OrderedDict with None/],
    ['a dictionary with arguments', reduce(global('collections', 'OrderedDict'), tuple(list())), /OrderedDict: 1 arguments, none expected/],
    ['state for a tensor', build(tensor(STORAGE, [6]), dict({})), /gives a tensor a state of a dict, which is not allowed/],
    ['state that is a tuple', build(orderedDict(), tuple(dict({}))), /gives a dict a state of a tuple, which is not/],
    ['a key without value', [0x7d, ...MARK, ...str('a'), 0x75], /sets a key without a value/],
    ['items for a list', [...list(), ...str('a'), ...int(1), 0x73], /adds to a dict, but finds a list/],
    ['an empty stack', [0x85], /takes 1 values, fewer are on the stack/],
    ['values in front of a mark', [...int(1), ...MARK, 0x85], /takes 1 values, fewer are on the stack/],
    ['a missing mark', [...int(1), 0x74], /takes values up to a mark, there is none/],
    ['a memo entry far on', [...NONE, 0x72, 0xff, 0xff, 0xff, 0xff], /stores memo entry 4294967295 after 0; writers number them/],
    ['an unknown memo entry', [0x68, 7], /recalls memo entry 7, which was not stored/],
    ['values left over', [...int(1), ...int(2)], /ends with 1 values left over/],
    ['a mark left over', [...MARK, ...int(1)], /takes 1 values|left over/],
    ['a string longer than the file', [0x58, 0xff, 0xff, 0xff, 0xff], /string of 4294967295 bytes, at most 4096 are read/],
    ['a string beyond the end', [0x8c, 200, 0x61], /cut off at byte \d+/],
    ['text that is not UTF-8', [0x8c, 1, 0xff], /text that is not UTF-8: "ÿ"/],
    ['a global of endless name', [0x63, ...repeat([0x61], 5000)], /line of more than 4096 bytes/],
    ['a very long number', [0x8a, 200, ...repeat([1], 200)], /number of 200 bytes, at most 16 are read/],
    ['a deep stack', repeat(NONE, 10_001), /more than 10000 values on the stack/],
    ['deep nesting of marks', repeat(MARK, 10_001), /more than 10000 values on the stack/],
    [
      'deep nesting of tuples',
      [...repeat([0x29], 1), ...repeat([0x85], 100_000)],
      /objects in \d+ bytes, no dictionary of tensors has so many/,
    ],
    ['long tuples', [...MARK, ...repeat(NONE, 33), 0x74], /tuple of 33 values, at most 32 are read/],
    ['long lists', [0x5d, ...MARK, ...repeat(NONE, 5000), 0x65], /objects in \d+ bytes, no dictionary/],
    ['a memo bomb', [...NONE, ...repeat([0x94], 100_000)], /memo entries in \d+ bytes, no dictionary/],
    ['nothing but small dictionaries', repeat([0x7d], 5000), /objects in \d+ bytes, no dictionary/],
    ['doubling tuples', [...int(1), ...Array.from({ length: 2000 }, () => [0x71, 0, 0x68, 0, 0x86]).flat()], /is a dict|holds a tuple/],
    ['a list that holds itself', [0x5d, 0x71, 0, 0x68, 0, 0x61], /holds a list, a dictionary of tensors is expected/],
    ['a number', int(3), /holds a number, a dictionary of tensors is expected/],
    ['a tensor alone', tensor(STORAGE, [6]), /holds a tensor, a dictionary of tensors is expected/],
    ['a dictionary of dictionaries', dict({ model: dict({}) }), /tensor "model": is a dict, a tensor is expected/],
    ['a number among the tensors', dict({ epoch: int(1) }), /tensor "epoch": is a number, a tensor is expected/],
    ['a key that is a number', [0x7d, ...int(1), ...tensor(STORAGE, [6]), 0x73], /has a number as a tensor's name/],
    ['a very long name', dict({ ['x'.repeat(2000)]: tensor(STORAGE, [6]) }), /name of 2000 characters, at most 1024/],
    ['a name that stands twice', dict({ a: tensor(STORAGE, [6]) }, dict({ a: tensor(STORAGE, [6]) })), /tensor "a": stands twice/],
  ])('with %s are refused', async (_what, object, message) => {
    expect(await refusalOf(holding(object))).toMatchObject(refusal(message));
  });

  it('of 100,000 nested tuples take no stack', async () => {
    const bytes = holding([...NONE, ...repeat([...int(1), 0x86], 100_000)]);
    expect(await refusalOf(bytes)).toMatchObject(refusal(/holds a tuple/));
  });
});

describe('tensors', () => {
  const rebuild = (...args: Bytes[]) => reduce(global('torch._utils', '_rebuild_tensor_v2'), tuple(...args));
  const persistent = (...items: Bytes[]): Bytes => [...tuple(...items), 0x51];
  const type = global('torch', 'FloatStorage');

  it.each<[string, Bytes, RegExp]>([
    ['more elements than the storage', tensor(STORAGE, [7]), /shape \[7\] with strides \[1\] from element 0 on leaves storage "0" of 6/],
    ['an offset beyond it', tensor(STORAGE, [6], [1], 1), /from element 1 on leaves storage "0"/],
    ['strides beyond it', tensor(STORAGE, [2, 3], [4, 1]), /strides \[4, 1\] from element 0 on leaves/],
    ['no elements, but an offset beyond it', tensor(STORAGE, [0], [1], 7), /from element 7 on leaves/],
    ['a negative offset', tensor(STORAGE, [1], [1], -1), /storage offset is -1/],
    ['a negative stride', tensor(STORAGE, [2], [-1], 3), /strides has -1 among its numbers/],
    ['a negative dimension', tensor(STORAGE, [-2], [1]), /shape has -2 among its numbers/],
    ['more elements than numbers can count', tensor(STORAGE, [2 ** 30, 2 ** 30], [0, 0]), /leaves storage "0"/],
    [
      'dimensions that overflow',
      rebuild(STORAGE, int(0), tuple(long(1n << 70n, 10)), ints(1), FALSE, orderedDict()),
      /shape has a large number/,
    ],
    ['fewer strides than dimensions', tensor(STORAGE, [2, 3], [1]), /2 dimensions but 1 strides/],
    ['too many dimensions', tensor(STORAGE, [1, 1, 1, 1, 1, 1, 1, 1, 1]), /shape has 9 dimensions, at most 8/],
    ['a shape that is a list', rebuild(STORAGE, int(0), list(int(6)), ints(1)), /shape is a list, a tuple is expected/],
    ['no arguments', rebuild(), /views nothing, a storage is expected/],
    ['another tensor for a storage', rebuild(tensor(STORAGE, [6]), int(0), ints(6), ints(1)), /views a tensor, a storage is expected/],
    ['a parameter of nothing', reduce(global('torch._utils', '_rebuild_parameter'), tuple()), /wraps nothing, a tensor is expected/],
    ['an id that is a string', [...str('0'), 0x51], /persistent id is a string, a tuple is expected/],
    ['an id of a module', persistent(str('module'), type, str('0')), /persistent id of kind "module", only storages/],
    ['an id of no type', persistent(str('storage'), NONE, str('0'), str('cpu'), int(6)), /storage type is None/],
    [
      'an id of another type',
      persistent(str('storage'), global('torch', 'Size'), str('0'), str('cpu'), int(6)),
      /storage type is torch\.Size/,
    ],
    ['an id without key', persistent(str('storage'), type, int(0), str('cpu'), int(6)), /storage key is a number/],
    ['an id with a negative count', storage('0', -6), /storage "0" has -6 elements/],
    ['an id without count', persistent(str('storage'), type, str('0')), /storage "0" has nothing elements/],
    ['an id of a view', storage('0', 6, { view: tuple(str('1')) }), /storage "0" is a view of another one/],
    ['an absent storage', tensor(storage('1', 6), [6]), /storage "1" has no zip entry/],
    ['a storage outside the folder', tensor(storage('../x', 6), [6]), /storage "\.\.\/x" has no zip entry/],
    ['a storage longer than its entry', tensor(storage('0', 7), [6]), /storage "0" of 7 F32 takes 28 bytes, its zip entry has 24/],
    ['a storage of another type', tensor(storage('0', 6, { type: 'HalfStorage' }), [6]), /takes 12 bytes, its zip entry has 24/],
    [
      'a storage of two types',
      tuple(STORAGE, storage('0', 12, { type: 'HalfStorage' })),
      /storage "0" has 12 elements of F16 here and 6 of F32 before/,
    ],
  ])('with %s are refused', async (_what, value, message) => {
    expect(await refusalOf(holding(dict({ a: value })))).toMatchObject(refusal(message));
  });
});

describe('zip files', () => {
  /** A good file with other bytes from `at` on, counted from the end if negative. */
  const patched = (lies: ZipLies, at: number, values: Bytes): Uint8Array => {
    const bytes = torchZip(GOOD, lies);
    bytes.set(values, at < 0 ? bytes.length + at : at);
    return bytes;
  };
  const at = (name: string, claimed: ZipPart['claimed']) => changed(name, { claimed: claimed! });

  it.each<[string, Uint8Array, RegExp]>([
    ['of 2 bytes', Uint8Array.of(0x50, 0x4b), /the zip directory is missing at the end; is the file cut off\?/],
    ['that are cut off', torchZip(GOOD).subarray(0, -1), /the zip directory is missing at the end/],
    ['without their first half', torchZip(GOOD).subarray(100), /begins neither like a zip file nor like a pickle/],
    [
      'with a directory further on',
      torchZip(GOOD, { directoryStart: 1 << 30 }),
      /zip directory at byte 1073741824 has \d+ bytes, it should end/,
    ],
    ['with a shorter directory', torchZip(GOOD, { directoryBytes: 10 }), /has 10 bytes, it should end at byte \d+/],
    ['with a huge directory', torchZip(GOOD, { directoryBytes: 0x7fffffff }), /zip directory of 2147483647 bytes, at most/],
    ['with fewer entries than said', torchZip(GOOD, { count: 9 }), /zip directory has 4 entries, its end says 9/],
    ['with a huge count', torchZip(GOOD, { count: 2 ** 40, zip64: true }), /zip directory of 1099511627776 entries, at most/],
    ['with a place above 2^53', torchZip(GOOD, { directoryStart: 2 ** 60, zip64: true }), /zip directory at byte 1152921504606847000 has/],
    ['with two entries in one place', at('data/0', { headerStart: 0 }), /overlaps what begins at byte 0/],
    ['with an entry in another', at('version', { headerStart: 40 }), /zip entry "archive\/data\.pkl": takes \d+ bytes .* overlaps/],
    ['with an entry in the directory', at('version', { byteLength: 100 }), /zip entry "archive\/version": takes 100 bytes .* overlaps/],
    [
      'with an entry outside the file',
      at('version', { headerStart: 1 << 30 }),
      /"archive\/version": takes 2 bytes from byte 10\d+ on and overlaps/,
    ],
    ['with another name in the directory', at('data/0', { name: 'archive/data/1' }), /its local header at byte \d+ has another name/],
    ['with two sizes', at('data/0', { packed: 3 }), /"archive\/data\/0": has 24 bytes, but takes 3 in the file/],
    ['with a compressed entry', changed('data/0', { method: 8 }), /"archive\/data\/0": is compressed \(method 8\)/],
    ['with an encrypted entry', changed('data/0', { flags: 1 }), /"archive\/data\/0": is encrypted/],
    ['with an entry twice', zip([...PARTS, PARTS[2]!]), /zip entry "archive\/data\/0" stands twice/],
    ['with an entry without name', zip([...PARTS, { name: '', data: [] }]), /name of 0 bytes/],
    ['without entries', zip([]), /has 0 zip entries named data\.pkl/],
    ['without pickle', zip([{ name: 'x', data: [] }]), /has 0 zip entries named data\.pkl, one is expected/],
    [
      'with a compressed entry that its directory calls stored',
      patched({}, 8, [8]),
      /"archive\/data\.pkl": its local header at byte 0 says/,
    ],
    ['without local header', patched({}, 0, [0x50, 0x4b, 9, 9]), /"archive\/data\.pkl": no local header at byte 0/],
    ['without zip64 end', patched({ zip64: true }, -98, [0]), /no zip64 directory end at byte \d+/],
    ['with a longer zip64 end', patched({ zip64: true }, -94, [45]), /zip64 directory end of 57 bytes at byte \d+ misses its locator/],
    ['with a shorter zip64 end', patched({ zip64: true }, -94, [43]), /zip64 directory end of 55 bytes at byte \d+ misses its locator/],
    ['with a zip64 end far away', patched({ zip64: true }, -30, [255]), /zip64 directory end at byte 109\d+ overlaps its locator/],
    ['on several disks', patched({}, -18, [1]), /zip directory is spread over several files/],
    ['on several disks, zip64', patched({ zip64: true }, -82, [1]), /zip directory is spread over several files/],
    ['with two pickles', zip([...PARTS, { name: 'other/data.pkl', data: [] }]), /has 2 zip entries named data\.pkl/],
    ['of TorchScript', torchZip({ ...GOOD, extra: [{ name: 'archive/constants.pkl', data: [] }] }), /is a TorchScript program/],
    ['of big-endian machines', torchZip({ ...GOOD, byteOrder: 'big' }), /byte order is "big"; only "little" is read/],
    ['with a long byte order', torchZip({ ...GOOD, byteOrder: 'little'.repeat(9) }), /"archive\/byteorder" has 54 bytes, at most 16/],
    ['with an empty pickle', changed('data.pkl', { data: [] }), /pickle at byte \d+: cut off/],
    ['with a pickle cut off', changed('data.pkl', { data: PARTS[0]!.data.slice(0, -1) }), /pickle at byte \d+: cut off at byte \d+/],
    ['with more than a pickle', changed('data.pkl', { data: [...PARTS[0]!.data, 0] }), /pickle ends at byte \d+, its zip entry at \d+/],
    ['with text for a pickle', changed('data.pkl', { data: [0x68, 0x69] }), /does not begin with a protocol version; is it a pickle\?/],
    ['with protocol 9', changed('data.pkl', { data: [0x80, 9, 0x4e, 0x2e] }), /protocol 9; 2 to 5 are read/],
  ])('%s are refused', async (_what, bytes, message) => {
    expect(await refusalOf(bytes)).toMatchObject(refusal(message));
  });
});

describe('older files', () => {
  const data = storages['0'];
  const old: Parameters<typeof torchLegacy>[0] = { object: GOOD.object, storages: [['0', 6, data]] };

  it.each<[string, Uint8Array, RegExp]>([
    ['that are empty', new Uint8Array(0), /begins neither like a zip file nor like a pickle/],
    ['of one byte', Uint8Array.of(0x80), /pickle at byte 0: cut off at byte 1/],
    ['with another magic number', torchLegacy({ ...old, magic: int(1) }), /not one that torch\.save wrote \(magic number\)/],
    ['of another version', torchLegacy({ ...old, version: int(1002) }), /format version is 1002, only 1001 is read/],
    ['of a version that is a list', torchLegacy({ ...old, version: list() }), /format version is a list/],
    ['of big-endian machines', torchLegacy({ ...old, machine: dict({ little_endian: FALSE }) }), /big-endian machine/],
    ['of unknown machines', torchLegacy({ ...old, machine: NONE }), /says None of the machine that wrote it/],
    ['with keys that are no list', torchLegacy({ ...old, keys: dict({}) }), /has a dict of storage keys, a list is expected/],
    ['with a key that is no string', torchLegacy({ ...old, keys: list(int(0)) }), /has a storage key that is not a string/],
    ['with an unknown key', torchLegacy({ ...old, keys: list(str('7')) }), /storage "7" at byte \d+: no tensor mentions it/],
    ['without their key', torchLegacy({ ...old, keys: list(), storages: [] }), /storage "0" is not among the 0 of the file/],
    ['with a key twice', torchLegacy({ ...old, storages: [...old.storages!, ...old.storages!] }), /"0" at byte \d+: stands twice/],
    ['with another count', torchLegacy({ ...old, storages: [['0', 5, data]] }), /has 5 elements, the dictionary says 6/],
    ['with a negative count', torchLegacy({ ...old, storages: [['0', -1n, data]] }), /has -1 elements, the dictionary says 6/],
    ['with a huge count', torchLegacy({ ...old, storages: [['0', 1n << 62n, data]] }), /has 4611686018427387904 elements/],
    ['that are cut off', torchLegacy(old).subarray(0, -1), /6 elements of F32 leave the file of \d+ bytes/],
    ['with bytes at the end', torchLegacy({ ...old, storages: [['0', 6, [...data, 0]]] }), /storages end at byte \d+, the file at \d+/],
    ['with a system call', torchLegacy({ ...old, object: reduce(global('os', 'system'), tuple(str('id'))) }), /global "os\.system" is not/],
    ['with a pickle that does not end', Uint8Array.from([...PROTO, ...repeat([0x4e, 0x85], 5)]), /pickle at byte \d+: cut off/],
  ])('%s are refused', async (_what, bytes, message) => {
    expect(await refusalOf(bytes)).toMatchObject(refusal(message));
  });
});
