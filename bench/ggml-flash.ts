/**
 * ggml's flash attention behind its own appending of new keys and values, as llama.cpp calls it: queries, new keys and values lie as projections leave them,
 * all heads of a token together, and so does the cache, a row of positions for each sequence. Nothing is gathered.
 */
import { type Context, GGML_TYPE, type Graph, STATUS_SUCCESS, type TensorPointer } from '../src/native/ggml.ts';
import { findLibraryDirectory } from '../src/native/libraries.ts';
import { openGgml, threadpoolParams } from '../src/native/open-ggml.ts';
import { adviseHugePages } from '../src/native/huge-pages.ts';
import { NativeError } from '../src/util/errors.ts';
import { type AttentionCase, cacheBytes, cacheContents, HEAD_DIM, HEADS, numbers, positionsOf, SCALE } from './attention-case.ts';

/** enum ggml_prec: accumulate in f32. */
const PRECISION_F32 = 10;
/** How long threads without work spin before they sleep; ggml's default. */
const POLL = 50;
const F16_NEGATIVE_INFINITY = 0xfc00;

export interface FlashAttention extends Disposable {
  run(): Promise<void>;
}

type Ggml = ReturnType<typeof openGgml>;

interface Inputs {
  readonly q: TensorPointer;
  /** Caches, [rows x positions, kv heads x head]. */
  readonly k: TensorPointer;
  readonly v: TensorPointer;
  readonly mask: TensorPointer;
  /** New keys and values, f32, [tokens, kv heads x head], and the rows of the cache that they become. */
  readonly newK: TensorPointer;
  readonly newV: TensorPointer;
  readonly places: TensorPointer;
}

export function openFlash(one: AttentionCase, threads: number): FlashAttention {
  const ggml = openGgml('cpu', findLibraryDirectory('cpu'));
  const { base, cpu } = ggml;
  const backend = base.deviceInit(base.regDevice(ggml.registry, 0), null)!;
  const pool = cpu!.threadpoolNew(threadpoolParams(base, threads, POLL))!;
  cpu!.setThreads(backend, threads);
  cpu!.setThreadpool(backend, pool);
  const context = base.init({ mem_size: base.tensorOverhead() * 24 + base.graphOverhead(16, false), mem_buffer: null, no_alloc: true });
  const inputs = makeInputs(ggml, context, one);
  const graph = makeGraph(ggml, context, inputs, one);
  const buffer = base.allocContextTensors(context, backend)!;
  adviseHugePages(base.bufferBase(buffer), base.bufferSize(buffer));
  fill(ggml, inputs, one);
  return {
    run: () =>
      new Promise((resolve, reject) => {
        base.graphCompute.async(backend, graph, (error, status) => {
          if (error || status !== STATUS_SUCCESS) reject(error ?? new NativeError(`ggml: ${one.name} failed: ${base.statusText(status)}`));
          else resolve();
        });
      }),
    [Symbol.dispose]: () => {
      base.backendFree(backend);
      cpu!.threadpoolFree(pool);
      base.bufferFree(buffer);
      base.free(context);
    },
  };
}

function makeInputs({ base }: Ggml, context: Context, one: AttentionCase): Inputs {
  const { type, kvHeads, rows, tokens } = one;
  if (type === 'g4') throw new NativeError('ggml has no type g4');
  const positions = positionsOf(one);
  const matrix = (id: number, heads: number, count: number): TensorPointer => base.newTensor2d(context, id, HEAD_DIM * heads, count);
  const added = rows * tokens;
  return {
    newK: matrix(GGML_TYPE.f32, kvHeads, added),
    newV: matrix(GGML_TYPE.f32, kvHeads, added),
    places: base.newTensor2d(context, GGML_TYPE.i64, added, 1),
    q: matrix(GGML_TYPE.f32, HEADS, added),
    k: matrix(GGML_TYPE[type], kvHeads, rows * positions),
    v: matrix(GGML_TYPE[type], kvHeads, rows * positions),
    mask: base.reshape4d(context, base.newTensor2d(context, GGML_TYPE.f16, positions, added), positions, tokens, 1, rows),
  };
}

function makeGraph({ base }: Ggml, context: Context, { q, k, v, mask, newK, newV, places }: Inputs, one: AttentionCase): Graph {
  /** [rows, heads, count, head], in strides. */
  const byHead = (tensor: TensorPointer, heads: number, count: number): TensorPointer =>
    base.permute(context, base.reshape4d(context, tensor, HEAD_DIM, heads, count, one.rows), 0, 2, 1, 3);
  const appended = [base.setRows(context, k, newK, places), base.setRows(context, v, newV, places)];
  const [keys, values] = [k, v].map((cache) => byHead(cache, one.kvHeads, positionsOf(one)));
  const out = base.flashAttention(context, byHead(q, HEADS, one.tokens), keys!, values!, mask, SCALE, 0, 0);
  base.flashAttentionSetPrecision(out, PRECISION_F32);
  const graph = base.newGraph(context, 16, false);
  for (const node of [...appended, out]) base.expand(graph, node);
  return graph;
}

function fill({ base }: Ggml, { q, k, v, mask, newK, newV, places }: Inputs, one: AttentionCase): void {
  const set = (tensor: TensorPointer, bytes: Uint8Array): void => base.tensorSet(tensor, bytes, 0, bytes.byteLength);
  const positions = positionsOf(one);
  set(q, new Uint8Array(numbers(one.rows * one.tokens * HEADS * HEAD_DIM).buffer));
  const added = one.rows * one.tokens;
  for (const each of [newK, newV]) set(each, new Uint8Array(numbers(added * one.kvHeads * HEAD_DIM).buffer));
  const rowOf = (_: unknown, i: number): bigint => BigInt(Math.floor(i / one.tokens) * positions + one.start + (i % one.tokens));
  set(places, new Uint8Array(BigInt64Array.from({ length: added }, rowOf).buffer));
  const contents = cacheContents(one.type, cacheBytes(one) / 2);
  set(k, contents);
  set(v, contents);
  const masks = new Uint16Array(one.rows * one.tokens * positions);
  for (let i = 0; i < one.rows * one.tokens; i++)
    masks.fill(F16_NEGATIVE_INFINITY, i * positions + one.start + (i % one.tokens) + 1, (i + 1) * positions);
  set(mask, new Uint8Array(masks.buffer));
}
