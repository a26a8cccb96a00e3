/*
 * Integer products by sdot, or smmla where there is +i8mm. Both take signed bytes: codes of up to 6 bits are the same with a sign and without, and those
 * of 8 bits have one in this library (`signed_quants`).
 */
#pragma once
#include <utility>

#include "kernels.h"

/* 4 k of ROWS rows, four rows in a vector; zeros behind them. */
template <int ROWS> static inline void load_rows(const int8_t *a, int8x16_t *x) {
  for (int first = 0; first < ROWS; first += 4) {
    if (first + 4 <= ROWS) {
      x[first / 4] = vld1q_s8(a + first * 4);
      continue;
    }
    int8_t rest[16] = {};
    std::memcpy(rest, a + first * 4, (ROWS - first) * 4);
    x[first / 4] = vld1q_s8(rest);
  }
}

static inline int8x16_t load_columns(const uint8_t *w) { return vreinterpretq_s8_u8(vld1q_u8(w)); }

#if defined(__ARM_FEATURE_MATMUL_INT8)
/* Two times 4 k of four rows (or columns) become two vectors with 8 k of two. */
static inline void pair(int8x16_t first, int8x16_t second, int8x16_t *pairs) {
  const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
  pairs[0] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
  pairs[1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
}

/* smmla gives two rows times two columns. */
template <int ROWS, int SPAN, class Codes, int STEPS> static void span_products(const int8_t *a, const uint8_t *group, int from, I (*products)[2]) {
  const uint8_t *w = group + from * FLX_PANEL * 4;
  constexpr int PAIRS = (ROWS + 1) / 2, QUADS = (ROWS + 3) / 4;
  I sums[PAIRS][4];
  for (int p = 0; p < PAIRS; p++)
    for (int c = 0; c < 4; c++) sums[p][c] = i_set(0);
  for (int step = 0; step < SPAN / 4; step += 2, a += 2 * ROWS * 4, w += FLX_PANEL * 8) {
    int8x16_t first[QUADS], second[QUADS], rows[2 * QUADS], columns[4];
    load_rows<ROWS>(a, first);
    load_rows<ROWS>(a + ROWS * 4, second);
    for (int q = 0; q < QUADS; q++) pair(first[q], second[q], rows + 2 * q);
    for (int v = 0; v < 2; v++) pair(load_columns(w + v * 16), load_columns(w + FLX_PANEL * 4 + v * 16), columns + 2 * v);
    for (int p = 0; p < PAIRS; p++)
      for (int c = 0; c < 4; c++) sums[p][c] = vmmlaq_s32(sums[p][c], rows[p], columns[c]);
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < 2; v++) {
      const I left = sums[r / 2][2 * v], right = sums[r / 2][2 * v + 1];
      const I row = r % 2 == 0 ? vcombine_s32(vget_low_s32(left), vget_low_s32(right)) : vcombine_s32(vget_high_s32(left), vget_high_s32(right));
      products[r][v] = i_add(products[r][v], row);
    }
}
#else
template <int... R> static inline void add_products(const int8x16_t *x, const int8x16_t *w, I (*products)[2], std::integer_sequence<int, R...>) {
  for (int v = 0; v < 2; v++) ((products[R][v] = vdotq_laneq_s32(products[R][v], w[v], x[R / 4], R % 4)), ...);
}

template <int ROWS, int SPAN, class Codes, int STEPS> static void span_products(const int8_t *a, const uint8_t *group, int from, I (*products)[2]) {
  const uint8_t *w = group + from * FLX_PANEL * 4;
  for (int step = 0; step < SPAN / 4; step++, a += ROWS * 4, w += FLX_PANEL * 4) {
    int8x16_t x[(ROWS + 3) / 4], columns[2];
    load_rows<ROWS>(a, x);
    for (int v = 0; v < 2; v++) columns[v] = load_columns(w + v * 16);
    add_products(x, columns, products, std::make_integer_sequence<int, ROWS>{});
  }
}
#endif
