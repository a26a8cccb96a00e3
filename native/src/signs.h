/*
 * Signed codes for AVX2, which multiplies bytes only with bytes without a sign: rows give the sizes of their values and say where a table has the weights with
 * their signs (kernel_signs.cpp).
 */
#pragma once
#include "panel.h"
#include "simd.h"

/* A table for a group of 32 k: [4 k at a time][combination of 4 signs, a bit for each k][32 columns][4]. */
static constexpr int SIGN_COMBINATIONS = 16;
static constexpr int SIGNED_BYTES = FLX_PANEL * 4;
static constexpr int SIGN_STEPS = GROUP / 4;

/*
 * AVX2 alone has one. -128 has no opposite in 8 bits: the table has -127 instead, and each row takes its own value there away once more. Files hardly have any.
 */
struct alignas(64) SignTable {
  int8_t codes[SIGN_STEPS][SIGN_COMBINATIONS][SIGNED_BYTES];
  int lowest; /* how many there are, and where */
  uint8_t lowest_k[GROUP * FLX_PANEL];
  uint8_t lowest_columns[GROUP * FLX_PANEL];
};

/* A group of a row. */
struct RowSigns {
  uint8_t sizes[GROUP];
  uint16_t places[SIGN_STEPS]; /* bytes into the table */
};

#if defined(__AVX2__) && !defined(FLX_ISA_AVX512)
static inline void split_signs(const int8_t *quants, RowSigns &to) {
  const I q = load_vector(quants);
  _mm256_storeu_si256(reinterpret_cast<I *>(to.sizes), _mm256_abs_epi8(q));
  const __m128i signs = _mm_cvtsi32_si128(_mm256_movemask_epi8(q)), four = _mm_set1_epi8(15);
  const __m128i fours = _mm_unpacklo_epi8(_mm_and_si128(signs, four), _mm_and_si128(_mm_srli_epi16(signs, 4), four));
  constexpr int16_t STEP = SIGN_COMBINATIONS * SIGNED_BYTES;
  const __m128i steps = _mm_mullo_epi16(_mm_set_epi16(7, 6, 5, 4, 3, 2, 1, 0), _mm_set1_epi16(STEP));
  const __m128i places = _mm_add_epi16(steps, _mm_mullo_epi16(_mm_cvtepu8_epi16(fours), _mm_set1_epi16(SIGNED_BYTES)));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(to.places), places);
}
#endif
