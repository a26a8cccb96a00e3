import type { Kernels, Team } from '../native/kernels.ts';
import type { DType, KvType, WeightType } from './dtype.ts';
import type { OpGraph } from './op-graph.ts';

/** Where bytes rest. On a machine without GPU there is no `gpu`. */
export type Tier = 'gpu' | 'cpu' | 'disk';

/** Memory of a device that holds one array. Freed exactly once, by `Symbol.dispose`; later use throws. */
export interface Tensor extends Disposable {
  /** For messages. */
  readonly name: string;
  readonly dtype: DType;
  /** Outermost dimension first, as in PyTorch; the last one is contiguous. */
  readonly shape: readonly number[];
  readonly byteLength: number;
}

/**
 * Memory for tensors that take turns: one that is placed where another one was takes over its bytes. Tensors are freed with the arena; disposing of them
 * does nothing.
 */
export interface Arena extends Disposable {
  readonly byteLength: number;
  /** An uninitialised tensor `offset` bytes behind the start, a multiple of ARENA_ALIGNMENT. */
  place(name: string, dtype: DType, shape: readonly number[], offset: number): Tensor;
}

/** Bytes. Reads past the page cache want pages of memory. */
export const ARENA_ALIGNMENT = 4096;

/** Memory in RAM beside a device with memory of its own: its tensors can be written, read and copied to the device, but not computed with. */
export interface HostArena extends Arena {
  /** Memory of one of its tensors, without a copy, valid until the arena is freed. */
  view(tensor: Tensor, offset: number, byteLength: number): Uint8Array;
}

/** What a device asks of arenas. */
export interface ArenaRules {
  /** Most bytes of one arena. */
  readonly mostBytes: number;
  /** The same of a host arena that should be page-locked. */
  readonly mostHostBytes: number;
  /** Bytes that must follow a placed tensor, because kernels read beyond its end. */
  readonly paddingBytes: number;
}

/** Rows `from` (inclusive) to `to` (exclusive) of a weight, ready on the device. The tensor holds these rows alone. */
export interface WeightSegment {
  readonly from: number;
  readonly to: number;
  /** Order of the bytes: `gguf` is row after row as files have it. Kernels may ask for other ones later. */
  readonly layout: 'gguf';
  readonly home: Tier;
  readonly tensor: Tensor;
}

/** A weight of shape [out, in], or [n] for vectors, as row segments that follow each other without gap. */
export interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly segments: readonly WeightSegment[];
}

/** Tensors [pages * PAGE_POSITIONS, kvHeads * headDim]. */
export interface KvPages {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** One layer's share of the KV cache. */
export interface KvLayer extends KvPages {
  /** Copies of pages that rest elsewhere, to be read: those with numbers from STAGED_PAGE on. */
  readonly staged?: KvPages | undefined;
}

/** Positions in a page of the KV cache. Attention kernels tile by the same number. */
export const PAGE_POSITIONS = 64;

/** Number of the first page of `staged`: FLX_STAGED. */
export const STAGED_PAGE: number = 2 ** 30;

/** A page that belongs to no sequence and holds zeros: devices that gather pages read it as padding. */
export const NULL_PAGE = 0;

/** What one sequence contributes to a micro-batch: `tokens` at positions `start`, `start + 1`, ... */
export interface BatchRow {
  readonly tokens: Int32Array;
  /** Position of the first of `tokens`; also the number of positions that the cache already holds. */
  readonly start: number;
  /** Pages of positions 0 to start + tokens.length - 1, in order. */
  readonly pages: readonly number[];
  /** The same for layers whose pages are their own because of their window, by window; NULL_PAGE where the window has moved on. */
  readonly windowPages?: ReadonlyMap<number, readonly number[]>;
  /** Tokens of the sequence so far, with those that later chunks bring. Default: start + tokens.length. */
  readonly total?: number;
  /** Length of the prompt: tokens from this position on decode, which is what sparse attention is about. Default: none does. */
  readonly prompt?: number;
}

/** What the graphs that read a batch want of it. */
export interface BatchNeeds {
  /** Windows of the attention ops. Default: attention to all positions, which is Infinity. */
  readonly windows?: readonly number[];
  /** Limit of the byLength ops, if there are any. */
  readonly lengthLimit?: number | undefined;
  /** Number of the micro-batch in its sweep: programs of consecutive ones may run at the same time. Default 0. */
  readonly microBatch?: number;
}

/**
 * The inputs that all layers of one micro-batch read: token ids, positions, page tables. Made for one shape and rewritten for
 * every sweep that has the same shape, so that the programs compiled against it are reused.
 */
export interface Batch extends Disposable {
  readonly key: string;
  /** Tokens of all rows together, in the order of the rows, without padding. */
  readonly tokenCount: number;
  /** Replaces the inputs. The rows must have the shape that the batch was made for. */
  write(rows: readonly BatchRow[]): Promise<void>;
}

/** A graph made ready to run as often as wanted. Must be disposed before the tensors and the batch it reads. */
export interface Program extends Disposable {
  readonly name: string;
}

export interface DeviceCapabilities {
  /** Weight types that `linear` multiplies without rounding the activations below f32; the first one is the fallback. */
  readonly exactWeights: readonly WeightType[];
  /** Weight types that `linear` takes with whatever rounding of activations the device does. */
  readonly weights: readonly WeightType[];
  readonly kv: readonly KvType[];
  /** Attention reads pages where they lie. Otherwise it gathers a row's pages before each use. */
  readonly pagedAttention: boolean;
  /** Attention reads staged pages. */
  readonly stagedPages: boolean;
  /**
   * Order of the elements in a page: `positions` is [position, head, element]; `heads` is [head, element, position] for keys and [head, position,
   * element] for values. Only whole pages mean the same in both.
   */
  readonly cacheOrder: 'positions' | 'heads';
  /** Attention has a sparsity below 1. */
  readonly sparseAttention: boolean;
  /** Tables of `embed` and stacks of experts may have several segments, as weights of `linear` may on every device. */
  readonly splitLookups: boolean;
}

export interface DeviceRoom {
  readonly freeBytes: number;
  /** Its memory is the machine's RAM: what one takes, the other has no more. */
  readonly isRam: boolean;
  /** Of each of the devices that are joined in this one. Default: it is one. */
  readonly parts?: readonly DeviceRoom[];
}

export interface DeviceMemory {
  readonly usedBytes: number;
  readonly peakBytes: number;
  /** In host arenas now, where those are not counted with the others. */
  readonly hostBytes?: number;
}

/**
 * What computes: ggml backends, the plain TypeScript reference, and the null device that only counts. One native call is in
 * flight at a time; calls are carried out in the order in which they were made, but see `runsAtOnce`.
 */
export interface Device extends AsyncDisposable {
  /** For messages and summaries, such as `ggml cpu zen4, 2 threads`. */
  readonly name: string;
  /** The tier of its own memory. */
  readonly tier: Tier;
  readonly capabilities: DeviceCapabilities;
  /** Programs of consecutive micro-batches that gain from running at the same time. Default 1; a device that says so logs its lanes itself. */
  readonly runsAtOnce?: number;
  memory(): DeviceMemory;

  /** Which of the devices that are joined in this one computes a layer. Default: 0 for all, since there is one. */
  rangeOf?(layer: number): number;

  /**
   * Uninitialised memory. `layer`: of the model, whose programs alone read and write it; without, what is written goes along to whatever reads it.
   * @throws {MemoryError} with the bytes asked for and in use
   */
  allocate(name: string, dtype: DType, shape: readonly number[], layer?: number): Tensor;
  /** Has the system give all memory of a tensor that was never written now, not page by page. Devices without such memory lack it. */
  claim?(tensor: Tensor): Promise<void>;
  /** Uninitialised memory for tensors that take turns. Devices that cannot place tensors lack it. @throws {MemoryError} as `allocate` */
  reserve?(name: string, byteLength: number, layer?: number): Arena;
  /** Default: arenas of any size, and no padding. */
  readonly arenaRules?: ArenaRules;
  /**
   * Memory in RAM from which copies to the device are fast: page-locked where the system allows it. Devices that compute in RAM need none, and may lack it.
   * @throws {MemoryError} as `allocate`
   */
  reserveHost?(name: string, byteLength: number): HostArena;
  /** What is free of its own memory. Undefined where the device computes in the RAM of the processor. */
  room?(): DeviceRoom | undefined;
  /** Says that a placed tensor will be written anew, whatever its memory holds now. */
  renew?(tensor: Tensor): void;
  /** Copies `bytes` to `offset` (bytes from the start of the tensor). The source may be reused once the promise resolves. */
  write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void>;
  /**
   * Brings a matrix of weights into the order that the kernels want, after its last write and before programs that read it are compiled. `parts` are
   * the equal groups of the tensor's rows that are also used alone, such as the experts of a segment. Devices without such an order lack it.
   */
  pack?(tensor: Tensor, parts: number): Promise<void>;
  /** Fills `target` from `offset` (bytes) on. */
  read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void>;
  /** Memory of a tensor in reach of the processor, without a copy, valid until the tensor is freed. Devices with memory of their own lack it. */
  view?(tensor: Tensor, offset: number, byteLength: number): Uint8Array;
  /** Computes something beside graphs on the device's threads, when it is its turn. Devices without our kernels lack it. */
  withKernels?<T>(call: (kernels: Kernels, team: Team) => Promise<T>): Promise<T>;
  /** Copies within or between tensors of this device, those in its host arenas too; ranges must not overlap. All numbers in bytes. */
  copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void>;

  /** Two lists of rows with equal keys can be written to the same batch. */
  batchKey(rows: readonly BatchRow[], needs?: BatchNeeds): string;
  createBatch(rows: readonly BatchRow[], needs?: BatchNeeds): Batch;
  /** Checks and lowers a graph. Graphs with an attention op, token ids or positions need the batch that they read. */
  compile(graph: OpGraph, batch?: Batch): Program;
  /** Computes asynchronously; the event loop stays free. @throws {NativeError} */
  run(program: Program): Promise<void>;
}
