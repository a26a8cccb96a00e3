/*
 * Products of signed codes by AVX2 for many rows. For each group of 32 k a table has the weights with all combinations of signs that 4 k of a row can have; a row
 * multiplies sizes with what it finds at the place of its own signs. That is a `maddubs`, a `maddwd` and an addition for 32 products, and the table is filled
 * once for all rows.
 */
#include "kernels.h"

#if defined(__AVX2__) && !defined(FLX_ISA_AVX512)
static constexpr int VECTORS = FLX_PANEL / LANES;

/* For each combination -1 or 1 as 4 bytes: bit i is the sign of the i-th. */
static constexpr uint32_t FOUR_SIGNS[SIGN_COMBINATIONS] = {
  0x01010101, 0x010101ff, 0x0101ff01, 0x0101ffff, 0x01ff0101, 0x01ff01ff, 0x01ffff01, 0x01ffffff,
  0xff010101, 0xff0101ff, 0xff01ff01, 0xff01ffff, 0xffff0101, 0xffff01ff, 0xffffff01, 0xffffffff,
};

/* Returns whether there are codes of -128. Both halves of a line are written together, which takes half as long as one after all the others. */
FLX_APART static bool fill_table(const uint8_t *codes, SignTable &table) {
  I lows = i_set(0);
  for (int step = 0; step < SIGN_STEPS; step++, codes += SIGNED_BYTES) {
    I weights[VECTORS];
    for (int v = 0; v < VECTORS; v++) {
      const I code = load_vector(codes + v * sizeof(I));
      lows = _mm256_or_si256(lows, _mm256_cmpeq_epi8(code, _mm256_set1_epi8(-128)));
      weights[v] = _mm256_max_epi8(code, _mm256_set1_epi8(-127));
    }
    for (int combination = 0; combination < SIGN_COMBINATIONS; combination++) {
      const I signs = load_four(FOUR_SIGNS + combination);
      for (int v = 0; v < VECTORS; v++) _mm256_storeu_si256(reinterpret_cast<I *>(table.codes[step][combination]) + v, _mm256_sign_epi8(weights[v], signs));
    }
  }
  return _mm256_testz_si256(lows, lows) == 0;
}

static void find_lowest(const uint8_t *codes, SignTable &table) {
  table.lowest = 0;
  for (int i = 0; i < GROUP * FLX_PANEL; i++) {
    if (codes[i] != 0x80) continue;
    table.lowest_k[table.lowest] = static_cast<uint8_t>(i / SIGNED_BYTES * 4 + i % 4);
    table.lowest_columns[table.lowest++] = static_cast<uint8_t>(i % SIGNED_BYTES / 4);
  }
}

/* What the sums of a row lack. */
static void subtract_lowest(const RowSigns &x, const SignTable &table, int32_t *sums) {
  for (int i = 0; i < table.lowest; i++) {
    const int k = table.lowest_k[i];
    const bool negative = (x.places[k / 4] / SIGNED_BYTES >> (k % 4) & 1) != 0;
    sums[table.lowest_columns[i]] += negative ? x.sizes[k] : -x.sizes[k];
  }
}

/* Pairs, 2 * 127 * 127 at most, fit in 16 bits. C is in the second cache, of which two lines are read and written for each row. */
template <bool LOWEST> FLX_APART static void multiply_rows(int64_t rows, const IntegerTile &t, int64_t group) {
  const RowSigns *x = reinterpret_cast<const RowSigns *>(t.quants) + group * rows;
  const float *x_scales = t.scales + group * rows;
  F scales[VECTORS], starts[VECTORS];
  for (int v = 0; v < VECTORS; v++) {
    scales[v] = f_load(t.panel.scales + group * FLX_PANEL + v * LANES);
    starts[v] = f_start_scaled(scales[v]);
  }
  float *c = t.c;
  for (int64_t row = 0; row < rows; row++, x++, c += FLX_PANEL) {
    I sums[VECTORS];
    for (int v = 0; v < VECTORS; v++) sums[v] = i_set(SUM_START);
    if (LOWEST) {
      int32_t less[FLX_PANEL] = {};
      subtract_lowest(*x, *t.table, less);
      for (int v = 0; v < VECTORS; v++) sums[v] = i_add(sums[v], load_vector(less + v * LANES));
    }
#pragma GCC unroll 8
    for (int step = 0; step < SIGN_STEPS; step++) {
      const int8_t *codes = reinterpret_cast<const int8_t *>(t.table->codes) + x->places[step];
      __asm__("" : "+r"(codes)); /* one register as address: with two, older processors split each instruction that reads by it */
      const I sizes = load_four(x->sizes + step * 4);
#pragma GCC unroll 4
      for (int v = 0; v < VECTORS; v++) {
        sums[v] = i_add(sums[v], pairs_to_fours(_mm256_maddubs_epi16(sizes, load_vector(codes + v * sizeof(I)))));
        keep_order(sums[v]);
      }
    }
    for (int v = 0; v < VECTORS; v++)
      f_store(c + v * LANES, f_fma(f_sum_scaled(sums[v], scales[v], starts[v]), f_set(x_scales[row]), f_load(c + v * LANES)));
  }
}

void multiply_by_signs(int64_t rows, const IntegerTile &t) {
  for (int64_t g = 0; g < t.groups; g++) {
    const uint8_t *codes = t.weights + g * t.weight_bytes;
    ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
    if (!fill_table(codes, *t.table)) {
      multiply_rows<false>(rows, t, g);
      continue;
    }
    find_lowest(codes, *t.table);
    multiply_rows<true>(rows, t, g);
  }
}
#endif
