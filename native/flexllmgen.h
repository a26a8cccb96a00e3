/*
 * CPU kernels of FlexLLMGen. One shared library per instruction set exports exactly these functions.
 *
 * Conventions: matrices are row-major, sizes in elements unless a name ends in `bytes`, pointers are to memory of the caller, which keeps it alive
 * while a call runs. Nothing here allocates beside `flx_team_create`, and nothing fails: the caller checks shapes.
 *
 * Exactness: every output is reduced in one order that depends on nothing but K and the instruction set. Neither the number of rows, nor their
 * order, nor the number of threads changes a bit of it.
 */
#ifndef FLEXLLMGEN_H
#define FLEXLLMGEN_H

#include <stdint.h>

#if defined(_WIN32)
#define FLX_API __declspec(dllexport)
#else
#define FLX_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Goes up with every change of this header. */
#define FLX_ABI 7

/* Columns of a weight panel: 32 rows of a weight matrix, which are 32 columns of the product. */
#define FLX_PANEL 32
/* Positions of a tile of attention, and of a page of the cache. */
#define FLX_PAGE 64
/* Pages from this number on are those of `staged_keys` and `staged_values`, counted from 0. */
#define FLX_STAGED (1 << 30)

FLX_API int32_t flx_abi(void);
/* `portable`, `avx2`, `vnni`, `vnni-bf16`, `amx`, `neon-dotprod` or `neon-i8mm`: what this library was compiled for. */
FLX_API const char *flx_isa(void);
/* Whether this processor has what this library was compiled for. Callable on every processor. */
FLX_API int32_t flx_supported(void);

/* ---- threads ---- */

typedef struct flx_team flx_team;

/* A team of `threads`, the caller of `flx_run` included. Null when the system gives no threads. */
FLX_API flx_team *flx_team_create(int32_t threads);
FLX_API void flx_team_free(flx_team *team);

/* ---- memory ---- */

/* Uninitialised memory that begins at a multiple of 64, on huge pages where the system has them. Null when there is none. */
FLX_API void *flx_memory_create(int64_t bytes);
FLX_API void flx_memory_free(void *memory);
/* Has the system give all of fresh memory now. Otherwise it does so as pages are first written, and may have no more by then. */
FLX_API void flx_memory_claim(void *memory, int64_t bytes);
FLX_API void flx_copy(void *to, const void *from, int64_t bytes);

/* ---- weights ---- */

/* Types of weights and caches; the numbers are those of ggml, but for FLX_G4: 4 bits with a scale and a minimum for 64 values, of caches only. */
enum flx_type {
  FLX_F32 = 0,
  FLX_F16 = 1,
  FLX_Q4_0 = 2,
  FLX_Q4_1 = 3,
  FLX_Q5_0 = 6,
  FLX_Q5_1 = 7,
  FLX_Q8_0 = 8,
  FLX_Q4_K = 12,
  FLX_Q5_K = 13,
  FLX_Q6_K = 14,
  FLX_IQ4_NL = 20,
  FLX_BF16 = 30,
  FLX_G4 = 1000,
};

/* Widens `count` values of a row in the file's order; for types that this library does not know. */
typedef void (*flx_to_float)(const void *row, float *values, int64_t count);

/* A matrix of weights [n, k]. */
typedef struct {
  void *data;
  int64_t row_bytes;
  int32_t type;
  /* 1: whole groups of FLX_PANEL rows are in panel order, the rows behind them in the file's; 0: all rows are in the file's order. */
  int32_t packed;
  int32_t n;
  int32_t k;
  /* Null for the types of `flx_type`. Otherwise k is a multiple of the type's block, which is 256 at most. */
  flx_to_float to_float;
} flx_weight;

/* Whether products with weights of this type take activations as they are, without rounding them to 8 bits or bf16 first. */
FLX_API int32_t flx_exact(int32_t type);
/* Whether `flx_pack` has a panel order for rows of `k` values of this type. */
FLX_API int32_t flx_packs(int32_t type, int64_t k);
/* Brings the rows of a weight from the file's order into panel order, in place. `packed` is 0 in the argument. */
FLX_API void flx_pack(flx_team *team, const flx_weight *weight);

/* ---- steps of a program ---- */

enum flx_activation { FLX_NONE = 0, FLX_RELU = 1, FLX_GELU = 2, FLX_GELU_TANH = 3, FLX_SILU = 4, FLX_SIGMOID = 5 };

/*
 * y[m, n] = activation(x[m, k] W[n, k]^T + bias[n]) * factors[m, n] + residual[m, n]; bias, factors and residual may be null.
 * f32, f16, and bf16 where there are no BF16 instructions: f32 arithmetic, error below 2 k 2^-24 sum |x w| + k 2^-149. bf16 with such instructions: x is
 * rounded to bf16 (2^-9 of it), then the same; what is below 2^-126 counts as 0. The block types of `flx_type`: x is rounded to 8 bits in groups of 32, or
 * 256 for K blocks, as llama.cpp does (groups below 2^-118 count as 0), then exact integer sums of a group or block and f32 sums over them: error below
 * 2 (k / 16 + 2) 2^-24 of the sum of their sizes and those of the minima, + k 2^-149. Other block types are widened to f32, or rounded to bf16 and
 * multiplied as that. An activation function adds an error below 4 2^-24 max(1, |its argument|).
 */
typedef struct {
  flx_weight weight;
  const float *x;
  float *y;
  const float *bias;
  const float *factors;
  const float *residual;
  /* flx_linear_scratch_bytes of memory */
  void *scratch;
  int64_t ldy; /* elements between rows of y, factors and residual */
  int32_t m;
  int32_t activation;
} flx_linear;

FLX_API int64_t flx_linear_scratch_bytes(int32_t type, int64_t m, int64_t k);

/*
 * y[m, columns] = rows `ids[i] + offset` of a weight [n, columns]. Rows of y whose sum is not in [0, n) stay as they are: where a table lies in several
 * pieces, each is looked up in turn, with an offset that is smaller by the rows before it.
 */
typedef struct {
  flx_weight table;
  const int32_t *ids;
  float *y;
  int32_t m;
  int32_t offset;
} flx_embed;

/* Per row and group of columns; bias and weight [columns / groups] may be null. kind 0: mean and variance; 1: root of the mean square. */
typedef struct {
  const float *x;
  float *y;
  const float *weight;
  const float *bias;
  int32_t rows;
  int32_t columns;
  int32_t groups;
  int32_t kind;
  float epsilon;
} flx_norm;

/* y = a + b (0), a * b (1), a * b[row] (2), a * factor (3), factor * tanh(a / factor) (4) */
typedef struct {
  const float *a;
  const float *b;
  float *y;
  int32_t rows;
  int32_t columns;
  int32_t kind;
  float factor;
} flx_map;

/* Copies rows: y[i] = x[ids[i]], or y[i] = x[i] if ids is null. With `other`, ids from `rows` on are rows of it: other[ids[i] - rows]. */
typedef struct {
  const float *x;
  const float *other;
  const int32_t *ids;
  float *y;
  int32_t rows;
  int32_t columns;
} flx_select;

/* Rotates pairs of the first `rotary` columns of every head by positions[row] / divisors[pair]. style 0: i with i + rotary / 2; 1: 2i with 2i + 1. */
typedef struct {
  const float *x;
  float *y;
  const int32_t *positions;
  const float *divisors;
  int32_t rows;
  int32_t columns;
  int32_t head;
  int32_t rotary;
  int32_t style;
  float factor;
} flx_rope;

/* One sequence of a batch. */
typedef struct {
  /* Pages of its positions from 0 on. */
  const int32_t *pages;
  /* Position of its first token in this batch, and the token's row. */
  int32_t start;
  int32_t first;
  int32_t tokens;
  /* Tokens from this position on decode; those before it are the prompt. */
  int32_t prompt;
} flx_row;

/* Its sequences may change between two runs of a program. */
typedef struct {
  const flx_row *rows;
  int64_t count;
} flx_batch;

/*
 * Appends k and v [tokens, kv_heads * head] to the cache, [pages * FLX_PAGE, kv_heads * head] of `type`: f32, f16, bf16, or, where `head` is a multiple of
 * its group, Q8_0, Q4_0, Q4_1 (32) or G4 (64). Pages that rest elsewhere are read from where they were staged; none is written there. Then y = softmax(scale q K^T) V over the
 * positions of the own row up to the token's own, `window` of them at most. Sums run over tiles of FLX_PAGE positions counted from 0.
 * With a sparsity below 1, tokens that decode add up the values of their own position and of the floor(sparsity * others) others with the largest weights
 * alone, earlier ones among equals; weights are those of all positions that are seen.
 */
typedef struct {
  const float *q;
  const float *k;
  const float *v;
  void *keys;
  void *values;
  const void *staged_keys; /* null where no page is staged */
  const void *staged_values;
  float *y;
  const flx_batch *batch;
  int32_t type;
  int32_t heads;
  int32_t kv_heads;
  int32_t head;
  int32_t window; /* 0: all positions */
  float scale;
  float softcap; /* 0: none */
  double sparsity; /* in (0, 1] */
} flx_attention;

/* Where one matrix of a stack lies, and whether it is packed. */
typedef struct {
  void *data;
  int64_t packed; /* as in `flx_weight` */
} flx_place;

/* Matrices of one type and shape. Each is whole, but they need not lie together. */
typedef struct {
  flx_weight each; /* what they share; its `data` and `packed` count for nothing */
  const flx_place *places;
} flx_stack;

/* y = the sum over the `used` experts with the highest logits of share * down(activation(gate x) * up x), in rank order. */
typedef struct {
  flx_stack gate; /* [experts] of [inner, columns] */
  flx_stack up;
  flx_stack down; /* [experts] of [columns, inner] */
  const float *x;
  const float *logits;
  float *y;
  void *scratch;
  int32_t rows;
  int32_t columns;
  int32_t inner;
  int32_t experts;
  int32_t used;
  int32_t normalise;
  int32_t activation;
} flx_moe;

/* Reads sizes and types alone, no pointers. */
FLX_API int64_t flx_moe_scratch_bytes(const flx_moe *moe);

enum flx_op { FLX_LINEAR, FLX_EMBED, FLX_NORM, FLX_MAP, FLX_SELECT, FLX_ROPE, FLX_ATTENTION, FLX_MOE, FLX_OPS };

typedef struct {
  int64_t op;
  const void *arguments;
} flx_step;

/* Bytes of the arguments of an op, for bindings to check their layout. */
FLX_API int64_t flx_arguments_bytes(int32_t op);
/* Runs steps one after the other, each on all threads of the team. One call at a time for one team. */
FLX_API void flx_run(flx_team *team, const flx_step *steps, int64_t count);

/* ---- sampling ---- */

/* Ids whose weights are summed together. */
#define FLX_SAMPLE_BLOCK 256
/* Most alternatives of a token. */
#define FLX_SAMPLE_TOP 20

/*
 * One row of `flx_sample`: the next token by penalties, mask, temperature, top-k, top-p and min-p in this order. Depends on nothing else; weights are
 * f64, summed in one order on every instruction set, so that all libraries and src/sampling/ choose the same ids.
 */
typedef struct {
  const float *logits;  /* [vocabulary] */
  const uint32_t *mask; /* allowed ids: bit id % 32 of word id / 32; null allows all */
  const int32_t *ids;   /* [tokens] ids that penalties apply to, each once, rising */
  const int32_t *counts; /* [tokens] how often each was generated */
  int64_t mask_words;   /* ids behind them are not allowed */
  int64_t tokens;
  int64_t top_k;     /* 0: all */
  double repetition; /* divides positive logits of `ids`, multiplies others */
  double presence;   /* subtracted from logits of ids with a count */
  double frequency;  /* the same, times the count */
  double temperature; /* 0: the largest logit, the lowest id among equals */
  double top_p;      /* 1: all */
  double log_min_p;  /* natural logarithm; -Infinity: all */
  double uniform;    /* in [0, 1) */
  int32_t known;     /* an id to score instead of choosing one; -1: choose */
  int32_t alternatives; /* of the log-probabilities, FLX_SAMPLE_TOP at most; -1: no log-probabilities */
} flx_sample_row;

/* `sum`, `best`, `count` and `top` are those of log-probabilities: of the logits as they are. */
typedef struct {
  double sum;    /* of exp(logit - best) */
  float best;    /* the largest logit */
  int32_t id;    /* chosen or known; -1: refused, as a logit is NaN or Infinity, or none is above -Infinity that is allowed */
  int32_t count; /* of `top` */
  int32_t top[FLX_SAMPLE_TOP]; /* the largest logits, largest first, lower ids first among equals */
} flx_sample_result;

/* Bytes of the two, for bindings to check their layout. */
FLX_API int64_t flx_sample_row_bytes(void);
FLX_API int64_t flx_sample_result_bytes(void);
FLX_API int64_t flx_sample_scratch_bytes(int64_t vocabulary, int64_t count);
/* `scratch` begins at a multiple of 8. One call at a time for one team, beside `flx_run` too. */
FLX_API void flx_sample(flx_team *team, const flx_sample_row *rows, int64_t count, int64_t vocabulary, void *scratch, flx_sample_result *results);

/* ---- disk ---- */

typedef struct flx_disk flx_disk;

/* A transfer that has ended: what it was called, and its bytes, fewer than wanted at the end of the file that is read; -errno if it failed. */
typedef struct {
  int64_t ticket;
  int64_t bytes;
} flx_disk_done;

/* Threads that read and write files, as many at once as there are. Null where the system has no transfers at an offset, or gives no threads. */
FLX_API flx_disk *flx_disk_create(int32_t threads);
/* Waits for the transfers that were wanted. */
FLX_API void flx_disk_free(flx_disk *disk);
/* Wants `bytes` of an open file (a descriptor) from `offset` on; transfers begin in this order. File and memory stay until the transfer has ended. */
FLX_API void flx_disk_read(flx_disk *disk, int32_t file, int64_t offset, void *to, int64_t bytes, int64_t ticket);
/* The same into the file. */
FLX_API void flx_disk_write(flx_disk *disk, int32_t file, int64_t offset, const void *from, int64_t bytes, int64_t ticket);
/* Has room on the disk set aside for the first `bytes` of an open file. Returns 0; -errno if there is none, 1 where the file system cannot. */
FLX_API int32_t flx_disk_set_aside(int32_t file, int64_t bytes);
/* Waits until a transfer has ended, and tells of `most` at most. Returns how many; 0 when none is wanted. One call at a time. */
FLX_API int64_t flx_disk_wait(flx_disk *disk, flx_disk_done *done, int64_t most);

/* ---- limits of the machine ---- */

/* Multiplications and additions in registers alone, on `threads` threads, of f32 (0), 8 bit integers (1) or bf16 (2), or of the last two by tiles (3, 4) where
 * there are any. Returns how many there were. */
FLX_API int64_t flx_operations(flx_team *team, int32_t kind, int32_t threads, int64_t rounds);
/* Reads memory once; `bytes` is a multiple of 2^20. */
FLX_API void flx_read(flx_team *team, const void *memory, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
