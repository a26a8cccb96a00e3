/*
 * Eight numbers at a time, whatever the instruction set: sums of weights have one order in all libraries and in src/sampling/weights.ts, and exponentials
 * the same operations, so that all of them draw the same tokens. No fused multiply-add, which TypeScript does not have.
 */
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

static constexpr int EIGHT = 8;
typedef float Floats __attribute__((vector_size(32)));
typedef int32_t Integers __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(64)));
typedef int64_t Longs __attribute__((vector_size(64)));
typedef uint64_t Words __attribute__((vector_size(64)));

/* Vectors go by reference: by value their passing depends on the instruction set. */
static inline void load_eight(const float *p, Floats &v) { std::memcpy(&v, p, sizeof v); }

/* Bit i is that of lane i; lanes are 0 or -1. */
static inline uint32_t lanes_of(const Integers &v) {
#if defined(__AVX2__)
  return static_cast<uint32_t>(_mm256_movemask_ps(reinterpret_cast<const __m256 &>(v)));
#else
  uint32_t bits = 0;
  for (int i = 0; i < EIGHT; i++) bits |= static_cast<uint32_t>(v[i] & 1) << i;
  return bits;
#endif
}

static inline double sum_of_eight(const Doubles &v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

/* 2^y for y <= 0, 0 below 2^-1000; src/sampling/power.ts says more. */
static inline void eight_powers_of_two(const Doubles &y, Doubles &result) {
  constexpr double MAGIC = 0x1.8p52 + 1023;
  const Doubles shifted = y + MAGIC;
  const Doubles r = y - (shifted - MAGIC);
  Doubles p = r * 1.0203216636934356e-7 + 1.3255224382364634e-6;
  p = p * r + 1.5252686461094522e-5;
  p = p * r + 1.5403455856454542e-4;
  p = p * r + 1.333355817944074e-3;
  p = p * r + 9.61812915939403e-3;
  p = p * r + 5.550410866475993e-2;
  p = p * r + 2.402265069581303e-1;
  p = p * r + 6.931471805599453e-1;
  p = p * r + 1.0;
  const Doubles power = (Doubles)((Words)shifted << 52);
  const Doubles product = p * power;
  result = (Doubles)((Longs)product & (y >= -1000.0));
}
