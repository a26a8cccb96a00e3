/* Rows of activations in the order that the kernels read them: blocks of rows, so that a kernel walks straight through memory. */
#pragma once
#include <cstdint>

#include "blocks.h"
#include "simd.h"

#if defined(FLX_ISA_AVX512)
static constexpr int INTEGER_ROWS = 6;
static constexpr int FLOAT_ROWS = 12;
#elif defined(__AVX2__)
static constexpr int INTEGER_ROWS = 4;
static constexpr int FLOAT_ROWS = 6;
#else
static constexpr int INTEGER_ROWS = 4;
static constexpr int FLOAT_ROWS = 4;
#endif

/*
 * Activations of m rows in 8 bits. Block b holds rows b * INTEGER_ROWS ..., `rows` of them (fewer in the last one):
 * quants [k / 4][rows][4]; for each group [rows]: the scale, and scale * sum of quants;
 * and [2][rows]: -zero
 * point * sum of quants, of the group and 0, or of its halves.
 */
struct IntegerRows {
  int8_t *quants;
  float *scales;
  int32_t *offsets;
  float *sums;
};

int64_t integer_rows_bytes(int64_t m, int64_t k);
IntegerRows integer_rows(void *scratch, int64_t m, int64_t k);
/* Rounds one block for weights with zero point `zero` and scales of `span` values. A value that is no finite number makes its whole row no number. */
void round_rows(const float *x, int64_t m, int64_t k, int64_t block, int32_t zero, int span, const IntegerRows &out);
/* Pairs of bf16: block b, of FLOAT_ROWS, as [(k + 1) / 2][rows][2]. */
int64_t bfloat_rows_bytes(int64_t m, int64_t k);
void round_bfloats(const float *x, int64_t m, int64_t k, int64_t block, uint16_t *out);
/* f32: block b as [k][rows]. */
void gather_rows(const float *x, int64_t m, int64_t k, int64_t block, float *out);
