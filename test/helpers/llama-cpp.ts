/** llama.cpp itself, as an outside truth: greedy tokens of a GGUF file by ids, with nothing rounded below f32. */
import koffi from 'koffi';
import { findLibraryDirectory, loadCpuLibrary, loadLibrary } from '../../src/native/libraries.ts';

type Address = bigint;

const P = 'void*';
/**
 * `llama_context_params` of llama.cpp 0.4.0, padded: it is passed in memory, where what follows does no harm. Numbers of the fields that are
 * changed, in words of 4 bytes.
 */
const CONTEXT_WORDS = 48;
const FIELD = { context: 0, batch: 1, threads: 7, batchThreads: 8, flashAttention: 13, keyType: 26, valueType: 27 } as const;
/** Defaults that show whether the layout is the one that was written down. */
const EXPECTED: readonly (readonly [word: number, value: number])[] = [
  [FIELD.context, 512],
  [FIELD.batch, 2048],
  [FIELD.threads, 4],
  [FIELD.flashAttention, -1],
  [FIELD.keyType, 1],
  [FIELD.valueType, 1],
];
const contextParams = koffi.struct({ words: koffi.array('int32', CONTEXT_WORDS) });
// struct llama_batch { int32_t n_tokens; llama_token * token; float * embd; llama_pos * pos; int32_t * n_seq_id; llama_seq_id ** seq_id; int8_t * logits; };
const batch = koffi.struct({ tokens: 'int32', token: P, embd: P, pos: P, seqCount: P, seqId: P, logits: P });
const modelParams = koffi.struct({ words: koffi.array('uint64', 10) });

/** The field layouts above hold here. */
export const hasLlama = process.platform === 'linux' && process.arch === 'x64';

/** @returns the `count` most probable tokens after `prompt`, each fed back; the end of a sequence does not stop them */
export function llamaGreedy(file: string, prompt: readonly number[], count: number): number[] {
  const api = bind();
  const model = api.load(file, api.modelDefaults());
  if (!model) throw new Error(`llama.cpp does not load ${file}`);
  const context = api.open(model, exactParams(api.contextDefaults()));
  try {
    if (!context) throw new Error(`llama.cpp does not run ${file}`);
    const vocabulary = api.vocabularySize(api.vocabulary(model));
    const result: number[] = [];
    for (let input = prompt; result.length < count; input = result.slice(-1)) {
      const tokens = koffi.alloc('int32', input.length);
      koffi.encode(tokens, koffi.array('int32', input.length), input);
      const status = api.decode(context, api.batchOf(tokens, input.length));
      koffi.free(tokens);
      if (status !== 0) throw new Error(`llama_decode failed with ${status}`);
      const logits = koffi.decode(api.logits(context, -1), koffi.array('float', vocabulary)) as Float32Array;
      result.push(logits.indexOf(Math.max(...logits)));
    }
    return result;
  } finally {
    if (context) api.close(context);
    api.unload(model);
  }
}

function exactParams({ words }: { words: readonly number[] }): { words: number[] } {
  const wrong = EXPECTED.find(([word, value]) => words[word] !== value);
  if (wrong) throw new Error(`llama_context_params: ${wrong[1]} expected in word ${wrong[0]}, got ${words[wrong[0]]}`);
  const changed = Array.from(words);
  changed[FIELD.context] = 256;
  changed[FIELD.threads] = changed[FIELD.batchThreads] = 1;
  changed[FIELD.flashAttention] = 0;
  changed[FIELD.keyType] = changed[FIELD.valueType] = 0;
  return { words: changed };
}

// oxlint-disable-next-line typescript/explicit-function-return-type -- one entry a function
function bind() {
  const directory = findLibraryDirectory('cpu');
  const base = loadLibrary(directory, 'ggml-base');
  const ggml = loadLibrary(directory, 'ggml');
  const llama = loadLibrary(directory, 'llama');
  const cpu = loadCpuLibrary(directory).library;
  const registry = (cpu.func('ggml_backend_init', P, []) as () => Address)();
  const count = (ggml.func('ggml_backend_reg_count', 'size_t', []) as () => number)();
  if (count === 0) (ggml.func('ggml_backend_register', 'void', [P]) as (registry: Address) => void)(registry);
  const silence = llama.func('llama_log_set', 'void', [P, P]) as (callback: unknown, data: null) => void;
  silence(base.symbol('ggml_version', 'void'), null);
  const f = <F>(name: string, result: unknown, parameters: unknown[]): F =>
    llama.func(name, result as never, parameters as never) as unknown as F;
  return {
    modelDefaults: f<() => object>('llama_model_default_params', modelParams, []),
    load: f<(file: string, params: object) => Address | null>('llama_model_load_from_file', P, ['str', modelParams]),
    unload: f<(model: Address) => void>('llama_model_free', 'void', [P]),
    contextDefaults: f<() => { words: number[] }>('llama_context_default_params', contextParams, []),
    open: f<(model: Address, params: object) => Address | null>('llama_init_from_model', P, [P, contextParams]),
    close: f<(context: Address) => void>('llama_free', 'void', [P]),
    vocabulary: f<(model: Address) => Address>('llama_model_get_vocab', P, [P]),
    vocabularySize: f<(vocabulary: Address) => number>('llama_vocab_n_tokens', 'int', [P]),
    batchOf: f<(tokens: unknown, count: number) => object>('llama_batch_get_one', batch, [P, 'int']),
    decode: f<(context: Address, input: object) => number>('llama_decode', 'int', [P, batch]),
    logits: f<(context: Address, index: number) => Address>('llama_get_logits_ith', P, [P, 'int']),
  };
}
