/** The part of llama.cpp's C interface that we call: its vocabularies. Its asserts abort the process, so callers check what they load. */
import koffi from 'koffi';
import { NativeError } from '../util/errors.ts';
import type { AsyncCall, Pointer } from './ggml.ts';
import { findLibraryDirectory, type Library, type LibraryDirectory, loadLibrary } from './libraries.ts';

export type LlamaModel = Pointer<'llama_model'>;
export type LlamaVocabulary = Pointer<'llama_vocab'>;
export type Llama = ReturnType<typeof bindLlama> & { readonly loadVocabulary: (file: string) => LlamaModel | null };

/** enum llama_token_attr, the bits that we use. */
export const TOKEN_ATTRIBUTE = { unknown: 1, control: 8 } as const;

const P = 'void*';

/**
 * struct llama_model_params of llama.cpp 0.4.0: 80 bytes. Only `vocab_only` is ever changed; what lies before it is 9 words of pointers and
 * enumerations. It is larger than two registers, so every platform passes it in memory and the types of the fields do not matter.
 */
const modelParams = koffi.struct({ words: koffi.array('uint64', 9), flags: koffi.array('uint8', 8) });
interface ModelParams {
  readonly words: ArrayLike<number | bigint>;
  readonly flags: ArrayLike<number>;
}
/** n_gpu_layers -1 and split_mode 1 (layers) in word 2; `use_extra_bufts` is the only flag that is set, the third behind `vocab_only`. */
const DEFAULTS = { word2: 0x1_ffff_ffffn, flags: [0, 0, 1, 0, 0, 0] } as const;

/** By directory: binding again would change nothing. */
const opened = new Map<string, Llama>();

/** @throws {NativeError} when the library is missing or another version than this binding was written for */
export function openLlama(directory: LibraryDirectory = findLibraryDirectory('cpu')): Llama {
  const llama = opened.get(directory.path) ?? startLlama(directory);
  opened.set(directory.path, llama);
  return llama;
}

function startLlama(directory: LibraryDirectory): Llama {
  const base = loadLibrary(directory, 'ggml-base');
  loadLibrary(directory, 'ggml');
  const library = loadLibrary(directory, 'llama');
  silence(library, base);
  const bound = bindLlama(library);
  const defaults = bound.modelDefaultParams();
  const flags = Array.from(defaults.flags).slice(0, DEFAULTS.flags.length);
  if (BigInt(defaults.words[2]!) !== DEFAULTS.word2 || flags.join() !== DEFAULTS.flags.join())
    throw new NativeError(`llama in ${directory.path} (${directory.origin}): another layout of llama_model_params than expected`);
  const vocabularyOnly = { words: defaults.words, flags: [1, ...Array.from(defaults.flags).slice(1)] };
  return { ...bound, loadVocabulary: (file) => bound.modelLoadFromFile(file, vocabularyOnly) };
}

/**
 * Messages go to a C function that ignores them: it takes no arguments and returns a constant, which the calling conventions of all
 * platforms allow, and any thread may call it. ggml's own messages stay as they were.
 */
function silence(library: Library, base: Library): void {
  // void llama_log_set(ggml_log_callback log_callback, void * user_data);
  const setLlama = library.func('llama_log_set', 'void', [P, P]) as (callback: unknown, data: null) => void;
  // void ggml_log_set(ggml_log_callback log_callback, void * user_data);
  const setGgml = base.func('ggml_log_set', 'void', [P, P]) as (callback: unknown, data: null) => void;
  setLlama(base.symbol('ggml_version', 'void'), null);
  setGgml(null, null);
}

function bindLlama(lib: Library) {
  const bind = <F>(name: string, result: unknown, parameters: unknown[]): F =>
    lib.func(name, result as never, parameters as never) as unknown as F;
  type V = LlamaVocabulary;
  return {
    // struct llama_model_params llama_model_default_params(void);
    modelDefaultParams: bind<() => ModelParams>('llama_model_default_params', modelParams, []),
    // struct llama_model * llama_model_load_from_file(const char * path_model, struct llama_model_params params);
    modelLoadFromFile: bind<(file: string, params: ModelParams) => LlamaModel | null>('llama_model_load_from_file', P, [
      'str',
      modelParams,
    ]),
    // void llama_model_free(struct llama_model * model);
    modelFree: bind<(model: LlamaModel) => void>('llama_model_free', 'void', [P]),
    // const struct llama_vocab * llama_model_get_vocab(const struct llama_model * model);
    modelVocabulary: bind<(model: LlamaModel) => V>('llama_model_get_vocab', P, [P]),
    // int32_t llama_vocab_n_tokens(const struct llama_vocab * vocab);
    tokenCount: bind<(vocabulary: V) => number>('llama_vocab_n_tokens', 'int', [P]),
    // enum llama_token_attr llama_vocab_get_attr(const struct llama_vocab * vocab, llama_token token);
    attributes: bind<(vocabulary: V, id: number) => number>('llama_vocab_get_attr', 'int', [P, 'int']),
    // bool llama_vocab_is_eog(const struct llama_vocab * vocab, llama_token token);
    isEnd: bind<(vocabulary: V, id: number) => boolean>('llama_vocab_is_eog', 'bool', [P, 'int']),
    // int32_t llama_token_to_piece(const struct llama_vocab * vocab, llama_token token, char * buf, int32_t length, int32_t lstrip, bool special);
    tokenToPiece: bind<(vocabulary: V, id: number, bytes: Uint8Array, length: number, lstrip: number, special: boolean) => number>(
      'llama_token_to_piece',
      'int',
      [P, 'int', P, 'int', 'int', 'bool'],
    ),
    // int32_t llama_tokenize(const struct llama_vocab * vocab, const char * text, int32_t text_len, llama_token * tokens,
    //     int32_t n_tokens_max, bool add_special, bool parse_special);
    tokenize: bind<AsyncCall<[V, Uint8Array, number, Int32Array, number, boolean, boolean], number>>('llama_tokenize', 'int', [
      P,
      P,
      'int',
      P,
      'int',
      'bool',
      'bool',
    ]),
  };
}
