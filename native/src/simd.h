/* Vectors of this library's instruction set: F floats, I int32; LANES of each. Every operation is one instruction where the set has it. */
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#elif defined(__aarch64__) && FLX_LEVEL > 0
#include "simd_neon.h"
#else
#include "simd_portable.h"
#endif

#if !defined(FLX_ISA_AVX512)
/* Across the lanes of a vector, halves first. */
template <class Combine> static inline float f_reduce(F v, const Combine &combine) {
  float lanes[LANES];
  f_store(lanes, v);
  for (int width = LANES / 2; width > 0; width /= 2)
    for (int i = 0; i < width; i++) lanes[i] = combine(lanes[i], lanes[i + width]);
  return lanes[0];
}
static inline float f_largest(F v) { return f_reduce(v, [](float a, float b) { return a > b ? a : b; }); }
static inline float f_sum(F v) { return f_reduce(v, [](float a, float b) { return a + b; }); }
#endif

#if !defined(__AVX2__)
/* A bit for each lane where a is at least b, lowest first. */
static inline uint32_t f_reaches(F a, F b) {
  float x[LANES], y[LANES];
  f_store(x, a);
  f_store(y, b);
  uint32_t bits = 0;
  for (int i = 0; i < LANES; i++) bits |= uint32_t{x[i] >= y[i]} << i;
  return bits;
}
#endif

#if !defined(FLX_ISA_AVX512)
/* x * 2^n for whole n from -126 to 128, in two steps: 2^128 is no float. */
static inline F f_scale(F x, F n) {
  const F half = f_round(f_mul(n, f_set(0.5f)));
  return f_mul(f_mul(x, f_power_of_two(half)), f_power_of_two(f_sub(n, half)));
}
#endif

/*
 * Sums of whole numbers that begin at the bits of 1.5 * 2^23, whose last bit counts 1, are floats without a conversion, while they are below 2^22. With a scale
 * that was f16, 1.5 * 2^23 times it is exact, so that one fused operation takes it away again and gives the same bits as converting and multiplying.
 */
#if defined(__AVX2__)
static constexpr int32_t SUM_START = 0x4b400000;
static inline F f_start_scaled(F scale) { return f_mul(scale, f_set(-0x1.8p23f)); }
static inline F f_sum_scaled(I sum, F scale, F start_scaled) { return f_fma(f_of_bits(sum), scale, start_scaled); }
#else
static constexpr int32_t SUM_START = 0;
static inline F f_start_scaled(F scale) { return scale; }
static inline F f_sum_scaled(I sum, F scale, F) { return f_mul(f_from_i(sum), scale); }
#endif

static inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = half & 0x7fffu;
  uint32_t bits;
  if (magnitude >= 0x7c00u) bits = sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13);
  else if (magnitude >= 0x0400u) bits = sign | ((magnitude + 0x1c000u) << 13);
  else {
    const float small = static_cast<float>(magnitude) * 0x1p-24f;
    std::memcpy(&bits, &small, 4);
    bits |= sign;
  }
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

/* Rounds to the nearest, ties to even. */
static inline uint16_t float_to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude >= 0x38800000u) {
    const uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
    return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
  }
  /* Subnormal: adding 0.5 leaves the value, in units of 2^-24, in the last bits. */
  float absolute;
  std::memcpy(&absolute, &magnitude, 4);
  const float shifted = absolute + 0.5f;
  uint32_t units;
  std::memcpy(&units, &shifted, 4);
  return static_cast<uint16_t>(sign | (units - 0x3f000000u));
}

static inline float bfloat_to_float(uint16_t bfloat) {
  const uint32_t bits = static_cast<uint32_t>(bfloat) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

/* Rounds to the nearest, ties to even. */
static inline uint16_t float_to_bfloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 64);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}
