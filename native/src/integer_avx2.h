/*
 * Integer products by AVX2, which multiplies bytes only with bytes without a sign, and adds pairs in 16 bits. Signed codes give their
 * sign to the activations, or rows theirs to the codes where many share them (kernel_signs.cpp).
 */
#pragma once
#include "kernels.h"
#include "quants.h"

/* As in panel order: the half of the columns that is in the low nibbles, or in the high ones, and planes of further bits. */
template <int SHIFT, int PLANES> struct NibbleColumns : Unsigned {
  static constexpr int STEP_BYTES = FLX_PANEL * 2;
  static constexpr int COLUMN_BYTES = 0;
};
/* Nibbles that name one of 16 values. */
template <int SHIFT> struct LookedColumns : Signed {
  static constexpr int STEP_BYTES = FLX_PANEL * 2;
  static constexpr int COLUMN_BYTES = 0;
};

/* 4 k of 8 columns, vector `v` of the step at `w`; `bits`: of the first plane. */
template <class Codes> static inline I load_codes(const uint8_t *w, const uint8_t *, int v, Codes) { return load_vector(w + v * 32); }
template <int SHIFT, int PLANES> static inline I load_codes(const uint8_t *w, const uint8_t *bits, int v, NibbleColumns<SHIFT, PLANES>) {
  I codes = _mm256_and_si256(_mm256_srli_epi16(load_vector(w + v * 32), SHIFT), _mm256_set1_epi8(15));
  for (int plane = 0; plane < PLANES; plane++)
    codes = _mm256_or_si256(codes, where_set(bits + plane * 128 + SHIFT * 2 + v * 4, static_cast<uint8_t>(16 << plane)));
  return codes;
}
template <int SHIFT> static inline I load_codes(const uint8_t *w, const uint8_t *, int v, LookedColumns<SHIFT>) {
  return look_up(load_codes(w, nullptr, v, NibbleColumns<SHIFT, 0>{}));
}

/* The sign goes to the activations: a pair, 2 * 127 * 128 at most, fits in 16 bits, two of them do not. Unrolled, for sums to stay in registers. */
template <int ROWS, int SPAN, class Codes> FLX_INLINE static inline void signed_products(const int8_t *a, const uint8_t *w, I (*products)[2]) {
#pragma GCC unroll 8
  for (int step = 0; step < SPAN / 4; step++, a += ROWS * 4, w += Codes::STEP_BYTES)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) {
      const I weights = load_codes(w, nullptr, v, Codes{}), sizes = _mm256_abs_epi8(weights);
#pragma GCC unroll 4
      for (int r = 0; r < ROWS; r++) {
        products[r][v] = i_add(products[r][v], pairs_to_fours(_mm256_maddubs_epi16(sizes, _mm256_sign_epi8(load_four(a + r * 4), weights))));
        keep_order(products[r][v]);
      }
    }
}

/* Products of pairs without a sign are 16 bits wide: STEPS of them fit, 2 * 127 * (2^bits - 1) each. */
template <int ROWS, int SPAN, class Codes, int STEPS> FLX_INLINE static inline void span_products(const int8_t *a, const uint8_t *group, int from, I (*products)[2]) {
  const uint8_t *w = group + from * Codes::STEP_BYTES, *bits = group + 512 + from * 16;
  if constexpr (Codes::SIGNED) return signed_products<ROWS, SPAN, Codes>(a, w, products);
  for (int first = 0; first < SPAN / 4; first += STEPS) {
    I pairs[ROWS][2];
#pragma GCC unroll 8
    for (int step = 0; step < STEPS; step++, a += ROWS * 4, w += Codes::STEP_BYTES, bits += 16)
#pragma GCC unroll 2
      for (int v = 0; v < 2; v++) {
        const I weights = load_codes(w, bits, v, Codes{});
#pragma GCC unroll 4
        for (int r = 0; r < ROWS; r++) {
          const I both = _mm256_maddubs_epi16(weights, load_four(a + r * 4));
          pairs[r][v] = step == 0 ? both : _mm256_add_epi16(pairs[r][v], both);
          keep_order(pairs[r][v]);
        }
      }
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < 2; v++) products[r][v] = i_add(products[r][v], pairs_to_fours(pairs[r][v]));
  }
}
