import type { StoredDtype } from './tensor-entry.ts';

/** What the unpickler makes: plain data, and descriptions of storages and tensors. Nothing of it was executed or read from the weights. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleSequence
  | PickleDict
  | PickleGlobal
  | PickledStorage
  | PickledTensor;

export interface PickleSequence {
  readonly kind: 'tuple' | 'list';
  /** Only lists grow, while they are unpickled. */
  readonly items: PickleValue[];
}

/** A dict or an OrderedDict. */
export interface PickleDict {
  readonly kind: 'dict';
  /** Key, value, key, value, as they were set. */
  readonly items: PickleValue[];
}

/** An importable name on the allow-list. */
export interface PickleGlobal {
  readonly kind: 'global';
  /** With its module, such as `torch.HalfStorage`. */
  readonly name: string;
}

/** A run of elements outside the pickle that tensors are views of. */
export interface PickledStorage {
  readonly kind: 'storage';
  readonly key: string;
  readonly dtype: StoredDtype;
  /** Elements. */
  readonly count: number;
}

/** A view of a storage, checked to stay inside. */
export interface PickledTensor {
  readonly kind: 'tensor';
  readonly storage: PickledStorage;
  /** Elements of the storage before the tensor's first. */
  readonly offset: number;
  readonly shape: readonly number[];
  /** Elements between neighbours, for each dimension. */
  readonly strides: readonly number[];
}

/** A value's kind for messages; never its content, which may be long. */
export function describeKind(value: PickleValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'None';
  if (typeof value !== 'object') return typeof value === 'bigint' ? 'a large number' : `a ${typeof value}`;
  return value.kind === 'global' ? value.name : `a ${value.kind}`;
}
