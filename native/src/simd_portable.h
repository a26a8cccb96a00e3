#pragma once
#include <cmath>

/* GCC and Clang turn these into whatever vectors the target has (SSE2, NEON). */
static constexpr int LANES = 4;
typedef float F __attribute__((vector_size(16)));
typedef int32_t I __attribute__((vector_size(16)));

static inline float half_to_float(uint16_t half);
static inline float bfloat_to_float(uint16_t bfloat);
static inline uint16_t float_to_half(float value);

static inline F f_load(const float *p) {
  F v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
static inline void f_store(float *p, F v) { std::memcpy(p, &v, sizeof v); }
static inline F f_set(float x) { return F{x, x, x, x}; }
static inline F f_fma(F a, F b, F c) { return a * b + c; }
static inline F f_mul(F a, F b) { return a * b; }
static inline F f_add(F a, F b) { return a + b; }
static inline F f_sub(F a, F b) { return a - b; }
/* As the instruction: the second one if either is no number. */
static inline F f_max(F a, F b) { return F{a[0] > b[0] ? a[0] : b[0], a[1] > b[1] ? a[1] : b[1], a[2] > b[2] ? a[2] : b[2], a[3] > b[3] ? a[3] : b[3]}; }
static inline F f_min(F a, F b) { return F{a[0] < b[0] ? a[0] : b[0], a[1] < b[1] ? a[1] : b[1], a[2] < b[2] ? a[2] : b[2], a[3] < b[3] ? a[3] : b[3]}; }
static inline F f_from_i(I v) { return __builtin_convertvector(v, F); }
static inline F f_from_half(const uint16_t *p) { return F{half_to_float(p[0]), half_to_float(p[1]), half_to_float(p[2]), half_to_float(p[3])}; }
/* Rounds to the nearest, ties to even. */
static inline void f_store_half(uint16_t *p, F v) {
  for (int i = 0; i < LANES; i++) p[i] = float_to_half(v[i]);
}
static inline F f_from_bfloat(const uint16_t *p) {
  return F{bfloat_to_float(p[0]), bfloat_to_float(p[1]), bfloat_to_float(p[2]), bfloat_to_float(p[3])};
}
static inline I i_set(int32_t x) { return I{x, x, x, x}; }
/* Signed bytes, one for each lane. */
static inline I i_from_bytes(const int8_t *p) { return I{p[0], p[1], p[2], p[3]}; }
static inline I i_add(I a, I b) { return a + b; }
static inline I i_mul(I a, I b) { return a * b; }
/* sum + a[2i] * two[0] + a[2i + 1] * two[1] */
static inline I i_add_pairs(I sum, const int16_t *a, const int16_t *two) {
  return sum + I{a[0], a[2], a[4], a[6]} * two[0] + I{a[1], a[3], a[5], a[7]} * two[1];
}
/* 2^n for whole n from -126 to 127 */
static inline F f_power_of_two(F n) { return (F)((__builtin_convertvector(n, I) + 127) << 23); }
static inline F f_round(F x) { return F{std::nearbyintf(x[0]), std::nearbyintf(x[1]), std::nearbyintf(x[2]), std::nearbyintf(x[3])}; }
/* 4 bytes as floats */
static inline F f_from_bytes(const uint8_t *p) { return f_from_i(I{p[0], p[1], p[2], p[3]}); }
/* 4 bits of each of 4 words of 32, as floats */
static inline F f_from_nibbles(const uint8_t *p, int shift) {
  I words;
  std::memcpy(&words, p, sizeof words);
  return f_from_i((words >> shift) & 15);
}
