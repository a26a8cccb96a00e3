/** Our own CPU kernels: native/flexllmgen.h, whose names and order of fields these are. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import koffi from 'koffi';
import { NativeError, UsageError } from '../util/errors.ts';
import type { AsyncCall } from './ggml.ts';
import { SAMPLE_RESULT_BYTES, SAMPLE_ROW_BYTES } from './sample-rows.ts';

/** FLX_ABI of the header that this binding was written for. */
const ABI = 7;
/** Widest first, of all architectures: libraries of another one are not there. */
const INSTRUCTION_SETS = ['amx', 'vnni-bf16', 'vnni', 'avx2', 'neon-i8mm', 'neon-dotprod', 'portable'] as const;
const EXTENSIONS: Readonly<Partial<Record<NodeJS.Platform, string>>> = { darwin: 'dylib', win32: 'dll' };

/** Address of native memory. */
export type Address = bigint;

const pointers = (...names: string[]): Record<string, string> => Object.fromEntries(names.map((name) => [name, 'void*']));
const integers = (...names: string[]): Record<string, string> => Object.fromEntries(names.map((name) => [name, 'int32']));

const weight = koffi.struct('flx_weight', {
  data: 'void*',
  row_bytes: 'int64',
  ...integers('type', 'packed', 'n', 'k'),
  to_float: 'void*',
});

const stack = koffi.struct('flx_stack', { each: weight, places: 'void*' });

/** Arguments of each op, in the order of `enum flx_op`. */
const ARGUMENTS = {
  linear: koffi.struct('flx_linear', {
    weight,
    ...pointers('x', 'y', 'bias', 'factors', 'residual', 'scratch'),
    ldy: 'int64',
    ...integers('m', 'activation'),
  }),
  embed: koffi.struct('flx_embed', { table: weight, ...pointers('ids', 'y'), ...integers('m', 'offset') }),
  norm: koffi.struct('flx_norm', {
    ...pointers('x', 'y', 'weight', 'bias'),
    ...integers('rows', 'columns', 'groups', 'kind'),
    epsilon: 'float',
  }),
  map: koffi.struct('flx_map', { ...pointers('a', 'b', 'y'), ...integers('rows', 'columns', 'kind'), factor: 'float' }),
  select: koffi.struct('flx_select', { ...pointers('x', 'other', 'ids', 'y'), ...integers('rows', 'columns') }),
  rope: koffi.struct('flx_rope', {
    ...pointers('x', 'y', 'positions', 'divisors'),
    ...integers('rows', 'columns', 'head', 'rotary', 'style'),
    factor: 'float',
  }),
  attention: koffi.struct('flx_attention', {
    ...pointers('q', 'k', 'v', 'keys', 'values', 'staged_keys', 'staged_values', 'y', 'batch'),
    ...integers('type', 'heads', 'kv_heads', 'head', 'window'),
    scale: 'float',
    softcap: 'float',
    sparsity: 'double',
  }),
  moe: koffi.struct('flx_moe', {
    gate: stack,
    up: stack,
    down: stack,
    ...pointers('x', 'logits', 'y', 'scratch'),
    ...integers('rows', 'columns', 'inner', 'experts', 'used', 'normalise', 'activation'),
  }),
} as const;

export type KernelOp = keyof typeof ARGUMENTS;
const OPS = Object.keys(ARGUMENTS) as KernelOp[];

export interface KernelWeight {
  readonly data: Address;
  readonly row_bytes: number;
  readonly type: number;
  readonly packed: number;
  readonly n: number;
  readonly k: number;
  readonly to_float: Address | null;
}

export interface KernelStack {
  readonly each: KernelWeight;
  readonly places: Address | null;
}

export type KernelArguments = Readonly<Record<string, number | Address | null | KernelWeight | KernelStack>>;

const row = koffi.struct('flx_row', { pages: 'void*', ...integers('start', 'first', 'tokens', 'prompt') });
const batch = koffi.struct('flx_batch', { rows: 'void*', count: 'int64' });
const step = koffi.struct('flx_step', { op: 'int64', arguments: 'void*' });

export type Team = bigint & { readonly kind: 'team' };
export type Disk = bigint & { readonly kind: 'disk' };

export interface Kernels {
  /** The instruction set. */
  readonly isa: string;
  readonly teamCreate: (threads: number) => Team | null;
  readonly teamFree: (team: Team) => void;
  readonly memoryCreate: (bytes: number) => Address | null;
  readonly memoryFree: (memory: Address) => void;
  readonly memoryClaim: AsyncCall<[memory: Address, bytes: number], void>;
  readonly copy: AsyncCall<[to: Address, from: Address | Uint8Array, bytes: number], void>;
  readonly exact: (type: number) => number;
  readonly packs: (type: number, k: number) => number;
  readonly pack: AsyncCall<[team: Team, weight: KernelWeight], void>;
  readonly linearScratchBytes: (type: number, m: number, k: number) => number;
  readonly moeScratchBytes: (moe: KernelArguments) => number;
  readonly operations: (team: Team, kind: number, threads: number, rounds: number) => number;
  readonly read: (team: Team, memory: Address, bytes: number) => void;
  readonly sampleScratchBytes: (vocabulary: number, count: number) => number;
  readonly sample: AsyncCall<
    [team: Team, rows: Uint8Array, count: number, vocabulary: number, scratch: Float64Array, results: Uint8Array],
    void
  >;
  readonly diskCreate: (threads: number) => Disk | null;
  readonly diskFree: (disk: Disk) => void;
  readonly diskRead: (disk: Disk, file: number, offset: number, to: Uint8Array, bytes: number, ticket: number) => void;
  readonly diskWrite: (disk: Disk, file: number, offset: number, from: Uint8Array, bytes: number, ticket: number) => void;
  readonly diskSetAside: (file: number, bytes: number) => number;
  /** `done`: pairs of ticket and bytes. */
  readonly diskWait: AsyncCall<[disk: Disk, done: BigInt64Array, most: number], number>;
  readonly run: AsyncCall<[team: Team, steps: Uint8Array, count: number], void>;
}

/** Where `native/build.mjs` puts the libraries, seen from the sources and from the built package alike. */
const FOLDER = fileURLToPath(new URL(`../../native/build/${process.platform}-${process.arch}/`, import.meta.url));

let loaded: { readonly kernels: Kernels | undefined } | undefined;

/**
 * The widest kernels that this processor runs, or none where there are none, or where FLEXLLMGEN_ISA asks for ggml's; it may also name a narrower set.
 * @throws {UsageError} for a set that does not run here, {NativeError} for libraries of another version
 */
export function loadKernels(): Kernels | undefined {
  loaded ??= { kernels: chooseKernels(process.env['FLEXLLMGEN_ISA']) };
  return loaded.kernels;
}

function chooseKernels(wanted: string | undefined): Kernels | undefined {
  if (wanted === 'ggml') return undefined;
  const known: readonly string[] = INSTRUCTION_SETS;
  if (wanted && !known.includes(wanted))
    throw new UsageError(`FLEXLLMGEN_ISA: ggml, ${known.toReversed().join(', ')} expected, got ${wanted}`);
  for (const isa of INSTRUCTION_SETS)
    if (!wanted || isa === wanted) {
      const kernels = openKernels(isa);
      if (kernels) return kernels;
    }
  if (wanted) throw new UsageError(`FLEXLLMGEN_ISA: ${wanted} is not built, or this processor does not run it`);
  return undefined;
}

/** The kernels of one instruction set, or undefined when they are not built or do not run here. @throws {NativeError} */
export function openKernels(isa: string, folder: string = FOLDER): Kernels | undefined {
  const file = path.join(folder, `libflexllmgen-${isa}.${EXTENSIONS[process.platform] ?? 'so'}`);
  if (!existsSync(file)) return undefined;
  const library = koffi.load(file);
  const bind = <F>(name: string, result: string, parameters: unknown[]): F =>
    library.func(name, result, parameters as never) as unknown as F;
  const abi = bind<() => number>('flx_abi', 'int32', [])();
  if (abi !== ABI) throw new NativeError(`${file}: has version ${abi} of the kernels' interface, ${ABI} expected; run npm run build`);
  if (!bind<() => number>('flx_supported', 'int32', [])()) return undefined;
  checkLayout(file, bind('flx_arguments_bytes', 'int64', ['int32']));
  checkSize(file, 'rows to sample', SAMPLE_ROW_BYTES, bind<() => number>('flx_sample_row_bytes', 'int64', [])());
  checkSize(file, 'results of sampling', SAMPLE_RESULT_BYTES, bind<() => number>('flx_sample_result_bytes', 'int64', [])());
  return {
    isa,
    teamCreate: bind('flx_team_create', 'void*', ['int32']),
    teamFree: bind('flx_team_free', 'void', ['void*']),
    memoryCreate: bind('flx_memory_create', 'void*', ['int64']),
    memoryFree: bind('flx_memory_free', 'void', ['void*']),
    memoryClaim: bind('flx_memory_claim', 'void', ['void*', 'int64']),
    copy: bind('flx_copy', 'void', ['void*', 'void*', 'int64']),
    exact: bind('flx_exact', 'int32', ['int32']),
    packs: bind('flx_packs', 'int32', ['int32', 'int64']),
    pack: bind('flx_pack', 'void', ['void*', koffi.pointer(weight)]),
    linearScratchBytes: bind('flx_linear_scratch_bytes', 'int64', ['int32', 'int64', 'int64']),
    moeScratchBytes: bind('flx_moe_scratch_bytes', 'int64', [koffi.pointer(ARGUMENTS.moe)]),
    operations: bind('flx_operations', 'int64', ['void*', 'int32', 'int32', 'int64']),
    read: bind('flx_read', 'void', ['void*', 'void*', 'int64']),
    sampleScratchBytes: bind('flx_sample_scratch_bytes', 'int64', ['int64', 'int64']),
    sample: bind('flx_sample', 'void', ['void*', 'void*', 'int64', 'int64', 'void*', 'void*']),
    diskCreate: bind('flx_disk_create', 'void*', ['int32']),
    diskFree: bind('flx_disk_free', 'void', ['void*']),
    diskRead: bind('flx_disk_read', 'void', ['void*', 'int32', 'int64', 'void*', 'int64', 'int64']),
    diskWrite: bind('flx_disk_write', 'void', ['void*', 'int32', 'int64', 'void*', 'int64', 'int64']),
    diskSetAside: bind('flx_disk_set_aside', 'int32', ['int32', 'int64']),
    diskWait: bind('flx_disk_wait', 'int64', ['void*', 'void*', 'int64']),
    run: bind('flx_run', 'void', ['void*', 'void*', 'int64']),
  };
}

function checkLayout(file: string, argumentsBytes: (op: number) => number): void {
  for (const [index, op] of OPS.entries()) checkSize(file, `the arguments of ${op}`, koffi.sizeof(ARGUMENTS[op]), argumentsBytes(index));
}

function checkSize(file: string, what: string, expected: number, got: number): void {
  if (expected !== got) throw new NativeError(`${file}: ${what} have ${got} bytes, ${expected} expected`);
}

/** Address of an array's memory, which does not move; it must outlive all uses. */
export const addressOf = (array: ArrayBufferView): Address => koffi.address(array);

/** Arrays of more bytes are not sure to be had everywhere. */
export const MOST_VIEWED_BYTES = 2 ** 31 - 1;

/** Memory of a device as bytes. */
export const viewOf = (memory: Address, byteLength: number): Uint8Array => new Uint8Array(koffi.view(memory, byteLength));

/** Arguments in native layout, and the memory that they need to stay. */
export function encodeArguments(op: KernelOp, values: KernelArguments): Uint8Array {
  const bytes = new Uint8Array(koffi.sizeof(ARGUMENTS[op]));
  koffi.encode(bytes, 0, ARGUMENTS[op], values);
  return bytes;
}

export function encodeSteps(steps: readonly { readonly op: KernelOp; readonly bytes: Uint8Array }[]): Uint8Array {
  const size = koffi.sizeof(step);
  const result = new Uint8Array(size * steps.length);
  for (const [i, { op, bytes }] of steps.entries())
    koffi.encode(result, i * size, step, { op: OPS.indexOf(op), arguments: addressOf(bytes) });
  return result;
}

export interface KernelPlace {
  readonly data: Address;
  readonly packed: boolean;
}

/** An array of `flx_place`. */
export const encodePlaces = (places: readonly KernelPlace[]): BigUint64Array =>
  BigUint64Array.from(places.flatMap(({ data, packed }) => [data, packed ? 1n : 0n]));

export interface KernelRow {
  readonly pages: Address;
  readonly start: number;
  readonly first: number;
  readonly tokens: number;
  readonly prompt: number;
}

export function encodeRows(rows: readonly KernelRow[]): Uint8Array {
  const size = koffi.sizeof(row);
  const result = new Uint8Array(size * rows.length);
  for (const [i, each] of rows.entries()) koffi.encode(result, i * size, row, each);
  return result;
}

/** Writes a `flx_batch` into `target`. */
export function encodeBatch(target: Uint8Array, rows: Uint8Array, count: number): void {
  koffi.encode(target, 0, batch, { rows: addressOf(rows), count });
}

export const BATCH_BYTES: number = koffi.sizeof(batch);
