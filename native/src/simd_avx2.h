#pragma once
#include <immintrin.h>

static constexpr int LANES = 8;
typedef __m256 F;
typedef __m256i I;

static inline F f_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void f_store(float *p, F v) { _mm256_storeu_ps(p, v); }
static inline F f_set(float x) { return _mm256_set1_ps(x); }
static inline F f_fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
static inline F f_mul(F a, F b) { return _mm256_mul_ps(a, b); }
static inline F f_add(F a, F b) { return _mm256_add_ps(a, b); }
static inline F f_sub(F a, F b) { return _mm256_sub_ps(a, b); }
static inline F f_max(F a, F b) { return _mm256_max_ps(a, b); }
/* A bit for each lane where a is at least b, lowest first. */
static inline uint32_t f_reaches(F a, F b) { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ))); }
static inline F f_min(F a, F b) { return _mm256_min_ps(a, b); }
static inline F f_of_bits(I v) { return _mm256_castsi256_ps(v); }
static inline F f_from_i(I v) { return _mm256_cvtepi32_ps(v); }
static inline F f_from_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))); }
/* Rounds to the nearest, ties to even. */
static inline void f_store_half(uint16_t *p, F v) { _mm_storeu_si128(reinterpret_cast<__m128i *>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT)); }
static inline F f_from_bfloat(const uint16_t *p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))), 16));
}
static inline I i_set(int32_t x) { return _mm256_set1_epi32(x); }
static inline I load_vector(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
/* The same 4 bytes in all lanes */
static inline I load_four(const void *p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return i_set(four);
}
/* Signed bytes, one for each lane. */
static inline I i_from_bytes(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))); }
static inline I i_add(I a, I b) { return _mm256_add_epi32(a, b); }
static inline I i_mul(I a, I b) { return _mm256_mullo_epi32(a, b); }
/* sum + a[2i] * two[0] + a[2i + 1] * two[1] */
static inline I i_add_pairs(I sum, const int16_t *a, const int16_t *two) {
  return i_add(sum, _mm256_madd_epi16(load_vector(a), load_four(two)));
}
/* 2^n for whole n from -126 to 127 */
static inline F f_power_of_two(F n) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline F f_round(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* 8 bytes as floats */
static inline F f_from_bytes(const uint8_t *p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))));
}
/* 4 bits of each of 8 words of 32, as floats */
static inline F f_from_nibbles(const uint8_t *p, int shift) {
  const I words = _mm256_srl_epi32(load_vector(p), _mm_cvtsi32_si128(shift));
  return _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(15)));
}

/* ---- of integer products ---- */

/* Otherwise GCC adds in another order, which needs twice the registers there are. */
static inline void keep_order(I &sum) { __asm__("" : "+x"(sum)); }
static inline I pairs_to_fours(I pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
