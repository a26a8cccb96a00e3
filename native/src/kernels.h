/*
 * The innermost products: `rows` rows of activations with the 32 columns of a panel, over a piece of K. C [rows, 32] is added to (floats: written if
 * `first`). A value of C is changed by one sum for each block of the weights (integers), pair of k (bf16; by tiles 32 of k) or k (floats), in their order, whatever
 * `rows` is.
 */
#pragma once
#include "activations.h"
#include "panel.h"
#include "signs.h"

/* Kernels, each a function of its own: where several are inlined into one, GCC spills sums (12 % of q4_0 with AVX2). */
#define FLX_APART __attribute__((noinline))
/* What kernels consist of within them: where several call the same, GCC leaves it outside, and sums go to memory (20 % with AVX2). */
#define FLX_INLINE __attribute__((always_inline))

struct IntegerTile {
  const int8_t *quants; /* as IntegerRows has them: [k / 4][rows][4], for tiles [groups][rows][32], or RowSigns [groups][rows] */
  const float *scales;  /* [groups][rows], for K blocks [groups / 8][rows] */
  const int32_t *offsets; /* [groups][2][rows] */
  union {
    const float *sums;    /* [groups][rows] */
    const int16_t *sum_pairs; /* of K blocks: [groups / 2][rows][2] */
  };
  const uint8_t *weights; /* [k / 4][32][4] */
  int64_t weight_bytes;   /* from group to group */
  /* For multiply_packed: panels by turns, `panel_bytes` apart. With a scale for each group it multiplies all, and their C follow each other; of K blocks one. */
  int64_t panels;
  int64_t panel_bytes;
  const uint8_t *packed;  /* whole blocks in panel order, which multiply_and_unpack brings to `weights` and `panel` */
  IntegerPanel panel;
  int64_t groups;
  /* A share of what is read next, which memory is asked for piece by piece: so many bytes with each group. */
  const uint8_t *ahead;
  int64_t ahead_bytes;
  float *c; /* [rows, 32] */
  int32_t type; /* of the weights */
  bool tiles;   /* whether it is by tiles */
  SignTable *table; /* to fill, where `quants` are sizes and signs; otherwise null */
};

struct FloatTile {
  /* Weights that follow, `ahead_bytes` of which are asked for with each k; null: those AHEAD_BYTES behind the ones that are read. */
  const uint8_t *ahead;
  int64_t ahead_bytes;
  const float *x; /* [k][rows] */
  const void *weights; /* [k][32] of `type` */
  int32_t type; /* FLX_F32, FLX_F16 or FLX_BF16 */
  int64_t k;
  float *c;
  bool first;
};

struct BfloatTile {
  const uint8_t *ahead; /* as above, with each pair */
  int64_t ahead_bytes;
  const uint16_t *x; /* as `round_bfloats` leaves a block */
  const uint16_t *weights; /* [pairs][32][2] */
  int64_t pairs;
  float *c;
  bool first;
};

/*
 * Few rows wait for memory. A processor's own prefetching stops at pages of 4 KiB and falls behind where products take as long as memory does, so that a single
 * block of rows asks for weights PACKED_AHEAD_BYTES before they are read. Intel's fetches about 20 lines beyond what is read from a page: two panels by turns
 * keep more requests under way (1 to 12 rows 9 to 38 % faster on a Xeon, docs/kernels.md); of K blocks a panel's asks for a share of the next ones of both.
 */
#if defined(FLX_ISA_TILES) || (defined(FLX_ISA_AVX512) && !defined(__AVX512BF16__))
static constexpr int64_t PACKED_AHEAD_BYTES = 2048;
static constexpr int PACKED_AHEAD_CACHE = 1;
static constexpr int64_t PANELS_BY_TURNS = 2;
#else /* as measured on Zen 4, which has BF16 wherever it has VNNI */
static constexpr int64_t PACKED_AHEAD_BYTES = 6144;
static constexpr int PACKED_AHEAD_CACHE = 2;
static constexpr int64_t PANELS_BY_TURNS = 1;
#endif

/* rows from 1 to INTEGER_ROWS, by signs to MOST_ROWS */
void multiply_integers(int64_t rows, const IntegerTile &tile);
/* The part of it that is by signs. */
void multiply_by_signs(int64_t rows, const IntegerTile &tile);
/* The part of it that is by tiles, rows to TILE_ROWS: weights are signed codes. */
void multiply_by_tiles(int64_t rows, const IntegerTile &tile);
/* The same for the first of several blocks of rows: unpacks for all. */
void multiply_and_unpack(int64_t rows, const IntegerTile &tile);
/*
 * The same for 1 to packed_rows rows, with codes that are unpacked in registers: `weights` is the first block of 32 values, whose header gives scales
 * and minima; or the codes of one block of more values.
 */
void multiply_packed(int64_t rows, const IntegerTile &tile);
/* Rows up to which `multiply_packed` is faster than unpacking beforehand; 0 where there is none. */
int64_t packed_rows(int32_t type);
/* rows from 1 to FLOAT_ROWS */
void multiply_floats(int64_t rows, const FloatTile &tile);
/* rows from 1 to BFLOAT_ROWS */
void multiply_bfloats(int64_t rows, const BfloatTile &tile);
