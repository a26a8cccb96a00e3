/**
 * llama.cpp itself, called as its own programs call it: a GGUF file, contexts, batches, logits. The layouts are those of release v0.4.0 on
 * x86-64 Linux, which the pinned package carries; default values show whether they hold.
 */
import koffi from 'koffi';
import { openGgml, threadpoolParams } from '../../src/native/open-ggml.ts';
import { type LlamaModel as ModelPointer, openLlama } from '../../src/native/llama.ts';
import { findLibraryDirectory, loadLibrary } from '../../src/native/libraries.ts';

type Address = bigint;
type Words = { readonly words: readonly number[] };

const P = 'void*';
/** llama_context_params, padded: it is passed in memory, where what follows does no harm. Numbers of words of 4 bytes. */
const CONTEXT_WORDS = 48;
const FIELD = {
  context: 0,
  batch: 1,
  microBatch: 2,
  sequences: 3,
  threads: 7,
  batchThreads: 8,
  flashAttention: 13,
  keyType: 26,
  valueType: 27,
  /** Bytes: swa_full, kv_unified. */
  lastFlags: 33,
} as const;
/** Defaults that show whether the layout is the one that was written down. */
const EXPECTED: readonly (readonly [word: number, value: number])[] = [
  [FIELD.context, 512],
  [FIELD.batch, 2048],
  [FIELD.microBatch, 512],
  [FIELD.sequences, 1],
  [FIELD.threads, 4],
  [FIELD.batchThreads, 4],
  [FIELD.flashAttention, -1],
  [FIELD.keyType, 1],
  [FIELD.valueType, 1],
  [FIELD.lastFlags, 1],
];
const UNIFIED = 0x100;
const TYPE = { f32: 0, f16: 1 } as const;
const contextParams = koffi.struct({ words: koffi.array('int32', CONTEXT_WORDS) });
// struct llama_batch { int32_t n_tokens; llama_token * token; float * embd; llama_pos * pos; int32_t * n_seq_id; llama_seq_id ** seq_id; int8_t * logits; };
const batch = koffi.struct({ count: 'int32', token: P, embd: P, pos: P, seqCount: P, seqId: P, logits: P });
/** Word 3 of llama_model_params: load_mode, 0 for reading into memory instead of mapping, and lazy_mode, 0 for off. */
const LOAD_MODE_WORD = 3;
/** Idle threads look for work so long, on a scale to 100, as in llama.cpp's own benchmarks. */
const POLL = 50;

/** The field layouts above hold here. */
export const hasLlama: boolean = process.platform === 'linux' && process.arch === 'x64';

export interface PeerOptions {
  readonly threads: number;
  /** Sequences that are in the context at once. Default 1. */
  readonly sequences?: number;
  /** Positions of all sequences together, which share one cache. */
  readonly positions: number;
  /** Attention without rounding: an f32 cache, and no flash attention. Default: flash attention on an f16 cache. */
  readonly exact?: boolean;
}

/** Tokens that one sequence goes on with. */
export interface PeerRow {
  readonly sequence: number;
  /** Position of the first token. */
  readonly start: number;
  readonly tokens: readonly number[];
}

/** A model, its weights in memory and repacked as llama.cpp likes them best. */
export class PeerModel implements Disposable {
  readonly vocabularySize: number;
  readonly #api: Api;
  readonly #model: ModelPointer;

  /** @throws {Error} when llama.cpp does not take the file */
  constructor(file: string) {
    this.#api = bind();
    const { words, flags } = this.#api.llama.modelDefaultParams();
    const params = { words: Array.from(words, (word, i) => (i === LOAD_MODE_WORD ? 0n : BigInt(word))), flags };
    const model = this.#api.llama.modelLoadFromFile(file, params);
    if (!model) throw new Error(`llama.cpp does not load ${file}`);
    this.#model = model;
    this.vocabularySize = this.#api.llama.tokenCount(this.#api.llama.modelVocabulary(model));
  }

  /** To be disposed before the model. */
  open(options: PeerOptions): PeerContext {
    return new PeerContext(this.#api, this.#model, this.vocabularySize, options);
  }

  [Symbol.dispose](): void {
    this.#api.llama.modelFree(this.#model);
  }
}

export class PeerContext implements Disposable {
  readonly #api: Api;
  readonly #context: Address;
  readonly #pool: Disposable;
  readonly #vocabularySize: number;

  constructor(api: Api, model: ModelPointer, vocabularySize: number, options: PeerOptions) {
    const context = api.open(model, changedParams(api.contextDefaults(), options));
    if (!context) throw new Error('llama.cpp makes no context');
    this.#api = api;
    this.#context = context;
    this.#vocabularySize = vocabularySize;
    this.#pool = api.attachThreads(context, options.threads);
  }

  /** One `llama_decode` of one batch with all rows, until it is done. Afterwards there are logits of each row's last token. */
  decode(rows: readonly PeerRow[]): void {
    const tokens = Int32Array.from(rows.flatMap((row) => row.tokens));
    const positions = Int32Array.from(rows.flatMap(({ start, tokens: own }) => own.map((_, i) => start + i)));
    const ids = Int32Array.from(rows.flatMap(({ sequence, tokens: own }) => own.map(() => sequence)));
    const logits = Int8Array.from(rows.flatMap(({ tokens: own }) => own.map((_, i) => Number(i === own.length - 1))));
    const counts = new Int32Array(tokens.length).fill(1);
    const first = koffi.address(ids);
    const idPointers = BigUint64Array.from(ids, (_, i) => first + BigInt(4 * i));
    const status = this.#api.decode(this.#context, {
      count: tokens.length,
      token: tokens,
      embd: null,
      pos: positions,
      seqCount: counts,
      seqId: idPointers,
      logits,
    });
    if (status !== 0) throw new Error(`llama_decode failed with ${status}`);
    this.#api.synchronize(this.#context);
  }

  /** A copy of the logits of the last token of a row of the latest batch. */
  logits(rows: readonly PeerRow[], row: number): Float32Array {
    const index = rows.slice(0, row + 1).reduce((sum, { tokens }) => sum + tokens.length, 0) - 1;
    return Float32Array.from(
      koffi.decode(this.#api.logits(this.#context, index), koffi.array('float', this.#vocabularySize)) as Float32Array,
    );
  }

  /** Forgets all sequences. */
  clear(): void {
    this.#api.clear(this.#api.memory(this.#context), false);
  }

  [Symbol.dispose](): void {
    this.#api.close(this.#context);
    this.#pool[Symbol.dispose]();
  }
}

function changedParams({ words }: Words, { threads, sequences = 1, positions, exact = false }: PeerOptions): Words {
  const wrong = EXPECTED.find(([word, value]) => words[word] !== value);
  if (wrong) throw new Error(`llama_context_params: ${wrong[1]} expected in word ${wrong[0]}, got ${words[wrong[0]]}`);
  const changed = Array.from(words);
  changed[FIELD.context] = positions;
  changed[FIELD.batch] = changed[FIELD.microBatch] = Math.min(512, positions);
  changed[FIELD.sequences] = sequences;
  changed[FIELD.threads] = changed[FIELD.batchThreads] = threads;
  changed[FIELD.flashAttention] = exact ? 0 : 1;
  changed[FIELD.keyType] = changed[FIELD.valueType] = exact ? TYPE.f32 : TYPE.f16;
  changed[FIELD.lastFlags]! |= UNIFIED;
  return { words: changed };
}

type Api = ReturnType<typeof bind>;

// oxlint-disable-next-line typescript/explicit-function-return-type -- one entry a function
function bind() {
  const directory = findLibraryDirectory('cpu');
  const { base, cpu, registry } = openGgml('cpu', directory);
  const llama = openLlama(directory);
  const ggml = loadLibrary(directory, 'ggml');
  // size_t ggml_backend_reg_count(void); void ggml_backend_register(ggml_backend_reg_t reg);
  const count = (ggml.func('ggml_backend_reg_count', 'size_t', []) as () => number)();
  if (count === 0) (ggml.func('ggml_backend_register', 'void', [P]) as (registry: Address) => void)(registry);
  const library = loadLibrary(directory, 'llama');
  const f = <F>(name: string, result: unknown, parameters: unknown[]): F =>
    library.func(name, result as never, parameters as never) as unknown as F;
  // void llama_attach_threadpool(struct llama_context * ctx, ggml_threadpool_t threadpool, ggml_threadpool_t threadpool_batch);
  const attach = f<(context: Address, pool: Address, batchPool: null) => void>('llama_attach_threadpool', 'void', [P, P, P]);
  return {
    llama,
    attachThreads: (context: Address, threads: number): Disposable => {
      const pool = cpu!.threadpoolNew(threadpoolParams(base, threads, POLL));
      if (!pool) throw new Error(`no pool of ${threads} threads`);
      attach(context, pool, null);
      return { [Symbol.dispose]: () => cpu!.threadpoolFree(pool) };
    },
    // struct llama_context_params llama_context_default_params(void);
    contextDefaults: f<() => Words>('llama_context_default_params', contextParams, []),
    // struct llama_context * llama_init_from_model(struct llama_model * model, struct llama_context_params params);
    open: f<(model: Address, params: Words) => Address | null>('llama_init_from_model', P, [P, contextParams]),
    // void llama_free(struct llama_context * ctx);
    close: f<(context: Address) => void>('llama_free', 'void', [P]),
    // int32_t llama_decode(struct llama_context * ctx, struct llama_batch batch);
    decode: f<(context: Address, input: object) => number>('llama_decode', 'int', [P, batch]),
    // void llama_synchronize(struct llama_context * ctx);
    synchronize: f<(context: Address) => void>('llama_synchronize', 'void', [P]),
    // float * llama_get_logits_ith(struct llama_context * ctx, int32_t i);
    logits: f<(context: Address, index: number) => Address>('llama_get_logits_ith', P, [P, 'int']),
    // llama_memory_t llama_get_memory(const struct llama_context * ctx);
    memory: f<(context: Address) => Address>('llama_get_memory', P, [P]),
    // void llama_memory_clear(llama_memory_t mem, bool data);
    clear: f<(memory: Address, data: boolean) => void>('llama_memory_clear', 'void', [P, 'bool']),
  };
}
