/**
 * The allow-list: every global that a pickled dictionary of tensors may name, and what calling it describes.
 * Source: `torch/_utils.py`, `torch/serialization.py` (`persistent_id`), `torch/_weights_only_unpickler.py`.
 */
import { MAX_RANK, MAX_TENSORS } from './limits.ts';
import { describeKind, type PickledStorage, type PickledTensor, type PickleGlobal, type PickleValue } from './pickle-values.ts';
import { quote } from './quote.ts';
import type { StoredDtype } from './tensor-entry.ts';

type Fail = (problem: string) => never;
type Call = (args: readonly PickleValue[], fail: Fail) => PickleValue;

const STORAGES: Readonly<Record<string, StoredDtype>> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};

/** Tensors saved on a GPU have the same classes in another module. */
const STORAGE_DTYPES: ReadonlyMap<string, StoredDtype> = new Map(
  ['torch', 'torch.cuda'].flatMap((module) => Object.entries(STORAGES).map(([name, dtype]) => [`${module}.${name}`, dtype] as const)),
);

const CALLS: ReadonlyMap<string, Call> = new Map<string, Call>([
  ['collections.OrderedDict', makeDict],
  ['torch._utils._rebuild_tensor', makeTensor],
  ['torch._utils._rebuild_tensor_v2', makeTensor],
  ['torch._utils._rebuild_parameter', unwrapParameter],
  ['torch.Size', unwrapSize],
]);

const GLOBALS: ReadonlyMap<string, PickleGlobal> = new Map(
  [...STORAGE_DTYPES.keys(), ...CALLS.keys()].map((name) => [name, { kind: 'global', name }]),
);

/** `name` has its module in front. Undefined when it is not on the list. */
export function findGlobal(name: string): PickleGlobal | undefined {
  return GLOBALS.get(name);
}

export function callGlobal({ name }: PickleGlobal, args: readonly PickleValue[], fail: Fail): PickleValue {
  const call = CALLS.get(name);
  if (!call) return fail(`calls ${name}, which is not allowed`);
  return call(args, (problem) => fail(`${name}: ${problem}`));
}

/**
 * The storage of a persistent id: `('storage', type, key, location, element count)`, in old files also `None` for "not a view".
 * `storages` are those known so far, by key.
 */
export function loadStorage(storages: Map<string, PickledStorage>, id: PickleValue, fail: Fail): PickledStorage {
  if (typeof id !== 'object' || id?.kind !== 'tuple') return fail(`persistent id is ${describeKind(id)}, a tuple is expected`);
  const [tag, type, key, , count, view = null] = id.items;
  if (tag !== 'storage')
    return fail(`persistent id of kind ${typeof tag === 'string' ? quote(tag) : describeKind(tag)}, only storages are read`);
  const dtype = typeof type === 'object' && type?.kind === 'global' ? STORAGE_DTYPES.get(type.name) : undefined;
  if (!dtype) return fail(`storage type is ${describeKind(type)}; known are ${Object.keys(STORAGES).join(', ')}`);
  if (typeof key !== 'string') return fail(`storage key is ${describeKind(key)}, a string is expected`);
  if (!isCount(count)) return fail(`storage ${quote(key)} has ${describeCount(count)} elements`);
  if (view !== null)
    return fail(`storage ${quote(key)} is a view of another one, which PyTorch wrote before version 0.4; save the model anew`);
  const known = storages.get(key);
  if (known && (known.dtype !== dtype || known.count !== count))
    return fail(`storage ${quote(key)} has ${count} elements of ${dtype} here and ${known.count} of ${known.dtype} before`);
  if (!known && storages.size >= MAX_TENSORS) return fail(`more than ${MAX_TENSORS} storages`);
  const storage = known ?? { kind: 'storage', key, dtype, count };
  storages.set(key, storage);
  return storage;
}

function makeDict(args: readonly PickleValue[], fail: Fail): PickleValue {
  if (args.length > 0) return fail(`${args.length} arguments, none expected`);
  return { kind: 'dict', items: [] };
}

/** (storage, offset, shape, strides, ...): what follows says nothing about the elements. */
function makeTensor([storage, offset, size, stride]: readonly PickleValue[], fail: Fail): PickledTensor {
  if (typeof storage !== 'object' || storage?.kind !== 'storage') return fail(`views ${describeKind(storage)}, a storage is expected`);
  if (!isCount(offset)) return fail(`storage offset is ${describeCount(offset)}`);
  const shape = readCounts(size, 'shape', fail);
  const strides = readCounts(stride, 'strides', fail);
  if (strides.length !== shape.length) return fail(`${shape.length} dimensions but ${strides.length} strides`);
  const empty = shape.includes(0);
  const last = empty ? offset - 1 : shape.reduce((index, n, i) => index + (n - 1) * strides[i]!, offset);
  if (last >= storage.count || !Number.isSafeInteger(shape.reduce((product, n) => product * n, 8)))
    return fail(
      `shape [${shape.join(', ')}] with strides [${strides.join(', ')}] from element ${offset} on leaves ` +
        `storage ${quote(storage.key)} of ${storage.count} elements`,
    );
  return { kind: 'tensor', storage, offset, shape, strides };
}

function unwrapParameter([tensor]: readonly PickleValue[], fail: Fail): PickledTensor {
  if (typeof tensor !== 'object' || tensor?.kind !== 'tensor') return fail(`wraps ${describeKind(tensor)}, a tensor is expected`);
  return tensor;
}

function unwrapSize([size]: readonly PickleValue[], fail: Fail): PickleValue {
  if (typeof size !== 'object' || size?.kind !== 'tuple') return fail(`wraps ${describeKind(size)}, a tuple is expected`);
  return size;
}

function readCounts(value: PickleValue | undefined, what: string, fail: Fail): number[] {
  if (typeof value !== 'object' || value?.kind !== 'tuple') return fail(`${what} is ${describeKind(value)}, a tuple is expected`);
  if (value.items.length > MAX_RANK) return fail(`${what} has ${value.items.length} dimensions, at most ${MAX_RANK} are read`);
  const wrong = value.items.find((item) => !isCount(item));
  if (wrong !== undefined) return fail(`${what} has ${describeCount(wrong)} among its numbers`);
  return value.items as number[];
}

const isCount = (value: PickleValue | undefined): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
const describeCount = (value: PickleValue | undefined): string => (typeof value === 'number' ? String(value) : describeKind(value));
