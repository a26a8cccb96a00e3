/**
 * A pickle virtual machine for dictionaries of tensors and nothing else: no opcode imports, calls or builds anything that is not on the
 * allow-list of `torch-objects.ts`, and what is on it makes descriptions. Every step takes constant time, so a pickle takes linear time;
 * nothing recurses, so nesting costs no stack.
 * Source: CPython's `Lib/pickletools.py`, which specifies the opcodes; `torch/serialization.py` for those that occur.
 */
import {
  FREE_PICKLE_OBJECTS,
  MAX_PICKLE_INTEGER_BYTES,
  MAX_PICKLE_OBJECTS,
  MAX_PICKLE_STACK,
  MAX_PICKLE_TUPLE,
  MIN_PICKLE_BYTES_PER_OBJECT,
} from './limits.ts';
import type { PickleCursor } from './pickle-cursor.ts';
import { describeKind, type PickledStorage, type PickleSequence, type PickleValue } from './pickle-values.ts';
import { quote } from './quote.ts';
import { callGlobal, findGlobal, loadStorage } from './torch-objects.ts';

export interface Unpickled {
  readonly value: PickleValue;
  /** By key: all storages that the pickle mentions. */
  readonly storages: ReadonlyMap<string, PickledStorage>;
}

/** The versions whose opcodes are known here; torch.save writes 2. */
const PROTOCOLS = { oldest: 2, newest: 5 } as const;
const PROTO = 0x80;
const STOP = 0x2e;

interface Machine {
  readonly cursor: PickleCursor;
  readonly begin: number;
  readonly stack: PickleValue[];
  /** Stack heights. */
  readonly marks: number[];
  readonly memo: PickleValue[];
  readonly storages: Map<string, PickledStorage>;
  /** Values with memory of their own, and items of lists and dictionaries. */
  objects: number;
}

/**
 * Reads one pickle from the cursor on, and leaves the cursor behind it.
 * @throws {FormatError} naming the byte, and the opcode or global that is not allowed
 * @throws {TruncatedPickleError} when the cursor's bytes end first
 */
export function unpickle(cursor: PickleCursor): Unpickled {
  const begin = cursor.position;
  const machine: Machine = { cursor, begin, stack: [], marks: [], memo: [], storages: new Map(), objects: 0 };
  if (cursor.opcode() !== PROTO) cursor.fail('does not begin with a protocol version; is it a pickle?');
  const protocol = cursor.uint8();
  if (protocol < PROTOCOLS.oldest || protocol > PROTOCOLS.newest)
    cursor.fail(`protocol ${protocol}; ${PROTOCOLS.oldest} to ${PROTOCOLS.newest} are read`);
  for (let opcode = cursor.opcode(); opcode !== STOP; opcode = cursor.opcode()) {
    const step = STEPS.get(opcode);
    if (!step)
      return cursor.fail(
        `opcode ${quote(String.fromCharCode(opcode))} (0x${opcode.toString(16)}) is not allowed in a dictionary of tensors`,
      );
    step(machine);
  }
  const value = pop(machine);
  if (machine.stack.length > 0 || machine.marks.length > 0) cursor.fail(`ends with ${machine.stack.length} values left over`);
  return { value, storages: machine.storages };
}

type Step = (machine: Machine) => void;

/** By opcode; the names are those of pickletools. */
const STEPS: ReadonlyMap<number, Step> = new Map<number, Step>([
  [0x95, ({ cursor }) => cursor.skip(8)], // FRAME: a hint for buffering
  [0x28, ({ cursor, marks, stack }) => void (marks.length < MAX_PICKLE_STACK ? marks.push(stack.length) : tooDeep(cursor))], // MARK
  [0x4e, (m) => push(m, null)], // NONE
  [0x88, (m) => push(m, true)], // NEWTRUE
  [0x89, (m) => push(m, false)], // NEWFALSE
  [0x4a, (m) => push(m, m.cursor.int32())], // BININT
  [0x4b, (m) => push(m, m.cursor.uint8())], // BININT1
  [0x4d, (m) => push(m, m.cursor.uint16())], // BININT2
  [0x8a, pushInteger], // LONG1
  [0x47, (m) => push(m, m.cursor.float64())], // BINFLOAT
  [0x58, (m) => pushObject(m, m.cursor.text(m.cursor.uint32()))], // BINUNICODE
  [0x8c, (m) => pushObject(m, m.cursor.text(m.cursor.uint8()))], // SHORT_BINUNICODE
  [0x54, (m) => pushObject(m, m.cursor.text(m.cursor.uint32()))], // BINSTRING, as Python 2 wrote text
  [0x55, (m) => pushObject(m, m.cursor.text(m.cursor.uint8()))], // SHORT_BINSTRING
  [0x7d, (m) => pushObject(m, { kind: 'dict', items: [] })], // EMPTY_DICT
  [0x5d, (m) => pushObject(m, { kind: 'list', items: [] })], // EMPTY_LIST
  [0x29, (m) => push(m, EMPTY_TUPLE)], // EMPTY_TUPLE
  [0x85, (m) => pushTuple(m, popMany(m, 1))], // TUPLE1
  [0x86, (m) => pushTuple(m, popMany(m, 2))], // TUPLE2
  [0x87, (m) => pushTuple(m, popMany(m, 3))], // TUPLE3
  [0x74, (m) => pushTuple(m, popToMark(m))], // TUPLE
  [0x61, (m) => extend(m, 'list', popMany(m, 1))], // APPEND
  [0x65, (m) => extend(m, 'list', popToMark(m))], // APPENDS
  [0x73, (m) => extend(m, 'dict', popMany(m, 2))], // SETITEM
  [0x75, (m) => extend(m, 'dict', popToMark(m))], // SETITEMS
  [0x71, (m) => memoize(m, m.cursor.uint8())], // BINPUT
  [0x72, (m) => memoize(m, m.cursor.uint32())], // LONG_BINPUT
  [0x94, (m) => memoize(m, m.memo.length)], // MEMOIZE
  [0x68, (m) => recall(m, m.cursor.uint8())], // BINGET
  [0x6a, (m) => recall(m, m.cursor.uint32())], // LONG_BINGET
  [0x63, (m) => pushGlobal(m, m.cursor.line(), m.cursor.line())], // GLOBAL
  [0x93, pushStackGlobal], // STACK_GLOBAL
  [0x51, pushStorage], // BINPERSID
  [0x52, reduce], // REDUCE
  [0x62, build], // BUILD
]);

/** One for all: tuples do not change. */
const EMPTY_TUPLE: PickleSequence = { kind: 'tuple', items: [] };

function push(machine: Machine, value: PickleValue): void {
  if (machine.stack.length >= MAX_PICKLE_STACK) tooDeep(machine.cursor);
  machine.stack.push(value);
}

function tooDeep(cursor: PickleCursor): never {
  return cursor.fail(`more than ${MAX_PICKLE_STACK} values on the stack`);
}

/** A value that takes memory of its own. */
function pushObject(machine: Machine, value: PickleValue): void {
  machine.objects = counted(machine, machine.objects + 1, 'objects');
  push(machine, value);
}

function counted({ cursor, begin }: Machine, count: number, what: string): number {
  const byBytes = FREE_PICKLE_OBJECTS + (cursor.position - begin) / MIN_PICKLE_BYTES_PER_OBJECT;
  if (count > MAX_PICKLE_OBJECTS || count > byBytes)
    cursor.fail(`${count} ${what} in ${cursor.position - begin} bytes, no dictionary of tensors has so many`);
  return count;
}

function pop(machine: Machine): PickleValue {
  return popMany(machine, 1)[0]!;
}

/** In the order in which they were pushed. Values in front of the last mark are out of reach. */
function popMany({ cursor, stack, marks }: Machine, count: number): PickleValue[] {
  if (stack.length - (marks.at(-1) ?? 0) < count) cursor.fail(`takes ${count} values, fewer are on the stack`);
  return stack.splice(stack.length - count, count);
}

function popToMark({ cursor, stack, marks }: Machine): PickleValue[] {
  const mark = marks.pop();
  if (mark === undefined) return cursor.fail('takes values up to a mark, there is none');
  return stack.splice(mark);
}

function pushInteger(machine: Machine): void {
  const { cursor } = machine;
  const byteLength = cursor.uint8();
  if (byteLength > MAX_PICKLE_INTEGER_BYTES) cursor.fail(`number of ${byteLength} bytes, at most ${MAX_PICKLE_INTEGER_BYTES} are read`);
  push(machine, cursor.integer(byteLength));
}

function pushTuple(machine: Machine, items: PickleValue[]): void {
  if (items.length > MAX_PICKLE_TUPLE) machine.cursor.fail(`tuple of ${items.length} values, at most ${MAX_PICKLE_TUPLE} are read`);
  pushObject(machine, { kind: 'tuple', items });
}

function extend(machine: Machine, kind: 'list' | 'dict', items: PickleValue[]): void {
  const target = pop(machine);
  if (typeof target !== 'object' || target === null || target.kind !== kind)
    return machine.cursor.fail(`adds to a ${kind}, but finds ${describeKind(target)}`);
  if (kind === 'dict' && items.length % 2 !== 0) machine.cursor.fail('sets a key without a value');
  machine.objects = counted(machine, machine.objects + items.length, 'objects');
  // Not push(...items): a call takes only so many arguments.
  for (const item of items) target.items.push(item);
  machine.stack.push(target);
}

function memoize(machine: Machine, index: number): void {
  const value = pop(machine);
  const { cursor, memo } = machine;
  if (index > memo.length) cursor.fail(`stores memo entry ${index} after ${memo.length}; writers number them one by one`);
  memo[index] = value;
  counted(machine, memo.length, 'memo entries');
  machine.stack.push(value);
}

function recall(machine: Machine, index: number): void {
  const value = machine.memo[index];
  if (value === undefined) return machine.cursor.fail(`recalls memo entry ${index}, which was not stored`);
  push(machine, value);
}

function pushGlobal(machine: Machine, module: PickleValue, name: PickleValue): void {
  const { cursor } = machine;
  if (typeof module !== 'string' || typeof name !== 'string')
    return cursor.fail(`global of ${describeKind(module)} and ${describeKind(name)}`);
  const fullName = `${module}.${name}`;
  const found = findGlobal(fullName);
  if (!found) return cursor.fail(`global ${quote(fullName)} is not allowed in a dictionary of tensors`);
  push(machine, found);
}

function pushStackGlobal(machine: Machine): void {
  const [module, name] = popMany(machine, 2) as [PickleValue, PickleValue];
  pushGlobal(machine, module, name);
}

function pushStorage(machine: Machine): void {
  const id = pop(machine);
  pushObject(
    machine,
    loadStorage(machine.storages, id, (problem) => machine.cursor.fail(problem)),
  );
}

function reduce(machine: Machine): void {
  const { cursor } = machine;
  const [callee, args] = popMany(machine, 2) as [PickleValue, PickleValue];
  if (typeof callee !== 'object' || callee?.kind !== 'global') return cursor.fail(`calls ${describeKind(callee)}, which is not allowed`);
  if (typeof args !== 'object' || args?.kind !== 'tuple') return cursor.fail(`calls ${callee.name} with ${describeKind(args)}`);
  pushObject(
    machine,
    callGlobal(callee, args.items, (problem) => cursor.fail(problem)),
  );
}

/** State that PyTorch hangs on its dictionaries (`_metadata`, versions of modules). It says nothing about tensors and is dropped. */
function build(machine: Machine): void {
  const [target, state] = popMany(machine, 2) as [PickleValue, PickleValue];
  const dicts = [target, state].every((value) => typeof value === 'object' && value?.kind === 'dict');
  if (!dicts) machine.cursor.fail(`gives ${describeKind(target)} a state of ${describeKind(state)}, which is not allowed`);
  machine.stack.push(target);
}
