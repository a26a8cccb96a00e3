/* Rows of activations in the order that the kernels read them: blocks of rows, so that a kernel walks straight through memory. */
#pragma once
#include <cstdint>

#include "blocks.h"
#include "paths.h"
#include "simd.h"

#if defined(FLX_ISA_AVX512)
static constexpr int INTEGER_ROWS = 6;
static constexpr int FLOAT_ROWS = 12;
#elif defined(FLX_ISA_NEON)
static constexpr int INTEGER_ROWS = 8;
static constexpr int FLOAT_ROWS = 12;
#elif defined(__AVX2__)
static constexpr int INTEGER_ROWS = 4;
static constexpr int FLOAT_ROWS = 6;
#else
static constexpr int INTEGER_ROWS = 4;
static constexpr int FLOAT_ROWS = 4;
#endif
/* Of bf16, and k that lie together for each of them. */
#if defined(FLX_ISA_TILES)
static constexpr int BFLOAT_ROWS = 32;
static constexpr int64_t BFLOAT_SPAN = 32;
#else
static constexpr int BFLOAT_ROWS = FLOAT_ROWS;
static constexpr int64_t BFLOAT_SPAN = 2;
#endif
/* Of what is multiplied by tiles. */
static constexpr int TILE_ROWS = 16;
/* Rows that pass by a panel one after the other, at most. */
static constexpr int64_t MOST_ROWS = 576;

/* Whether m rows are sizes and signs (signs.h): with AVX2, for signed codes, where rows are so many that a table of weights pays. */
bool by_signs(int32_t type, int64_t m);
/* Whether m rows are multiplied by tiles (tiles.h), 16 at a time. */
bool by_tiles(int32_t type, int64_t m);
/* Rows of a block of integers: all where the kernels take weights in panel order (packed_rows), by signs up to MOST_ROWS. */
int64_t integer_block_rows(int32_t type, int64_t m);
/* Rows of a block: as equal as blocks of `most` rows at most can be, since short ones leave registers unused. */
static inline int64_t block_rows(int64_t m, int64_t most) {
  const int64_t blocks = (m + most - 1) / most;
  return blocks > 0 ? (m + blocks - 1) / blocks : 1;
}

/*
 * Activations of m rows in 8 bits, for weights of a type. Block b holds rows b * integer_block_rows ..., `rows` of them (fewer in the last one):
 * quants [k / 4][rows][4], or RowSigns [k / 32][rows], with which only scales belong; the scale of each group or, for weights in K blocks, of 256 values
 * [rows]; and for each group [2][rows]: -zero point * sum of quants, of the group (behind SUM_START, but for K blocks) and 0, or of its halves;
 * [rows]: scale * sum of quants; for K blocks, for each 2 groups [rows][2]: the sums of quants.
 */
struct IntegerRows {
  int8_t *quants;
  int64_t group_bytes; /* of 32 quants */
  float *scales;
  int32_t *offsets;
  union {
    float *sums;
    int16_t *sum_pairs;
  };
};

int64_t integer_rows_bytes(int32_t type, int64_t m, int64_t k);
IntegerRows integer_rows(int32_t type, void *scratch, int64_t m, int64_t k);
/* Parts of the rows, or of their k, that are rounded at once by different threads. */
int64_t rounding_parts(int32_t type, int64_t m, int64_t k);
/* Rounds one of them for weights of a type. A value that is no finite number makes its whole row no number. */
void round_rows(const float *x, int64_t m, int64_t k, int64_t part, int32_t type, const IntegerRows &out);
/* Pairs of bf16: block b as [(k + 1) / 2][rows][2]; for tiles as [k / 32, up][rows][32], with zeros behind the last k. */
int64_t bfloat_rows_bytes(int64_t m, int64_t k);
void round_bfloats(const float *x, int64_t m, int64_t k, int64_t block, uint16_t *out);
/* What follows a row of its block in bf16. */
static inline int64_t bfloat_row(int64_t k) { return (k + BFLOAT_SPAN - 1) / BFLOAT_SPAN * BFLOAT_SPAN; }
/* f32: block b as [k][rows]. */
void gather_rows(const float *x, int64_t m, int64_t k, int64_t block, float *out);
