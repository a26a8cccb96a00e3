#pragma once
#include <immintrin.h>

#define FLX_ISA_AVX512 1
static constexpr int LANES = 16;
typedef __m512 F;
typedef __m512i I;

static inline F f_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void f_store(float *p, F v) { _mm512_storeu_ps(p, v); }
static inline F f_set(float x) { return _mm512_set1_ps(x); }
static inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
static inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
static inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
static inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
static inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }
static inline F f_of_bits(I v) { return _mm512_castsi512_ps(v); }
static inline F f_from_i(I v) { return _mm512_cvtepi32_ps(v); }
static inline F f_from_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p))); }
/* Rounds to the nearest, ties to even. */
static inline void f_store_half(uint16_t *p, F v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i *>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline F f_from_bfloat(const uint16_t *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p))), 16));
}
static inline I i_set(int32_t x) { return _mm512_set1_epi32(x); }
/* The same 4 bytes in all lanes */
static inline I load_four(const void *p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return i_set(four);
}
static inline I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
static inline I i_mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
/* Signed bytes, one for each lane. */
static inline I i_from_bytes(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))); }
/* x * 2^n for whole n */
static inline F f_scale(F x, F n) { return _mm512_scalef_ps(x, n); }
static inline F f_round(F x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/* A bit for each lane where a is at least b, lowest first. */
static inline uint32_t f_reaches(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
static inline float f_largest(F v) { return _mm512_reduce_max_ps(v); }
static inline float f_sum(F v) { return _mm512_reduce_add_ps(v); }
/* 16 bytes as floats */
static inline F f_from_bytes(const uint8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))));
}
/* 4 bits of each of 16 words of 32, as floats: looked up by the lowest bits of what is shifted */
static inline F f_from_nibbles(const uint8_t *p, int shift) {
  typedef uint32_t Words __attribute__((vector_size(64)));
  const F table = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return _mm512_permutexvar_ps((I)((Words)_mm512_loadu_si512(p) >> static_cast<uint32_t>(shift)), table);
}
