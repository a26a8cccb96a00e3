/* Types of floats in memory: how they are loaded as vectors, narrowed and widened. */
#pragma once
#include "simd.h"

struct Floats {
  typedef float Stored;
  static void store(float *p, F v) { f_store(p, v); }
  static F load(const float *p) { return f_load(p); }
  static float narrow(float x) { return x; }
  static float widen(float x) { return x; }
};

struct Halves {
  typedef uint16_t Stored;
  static void store(uint16_t *p, F v) { f_store_half(p, v); }
  static F load(const uint16_t *p) { return f_from_half(p); }
  static uint16_t narrow(float x) { return float_to_half(x); }
  static float widen(uint16_t x) { return half_to_float(x); }
};

struct Bfloats {
  typedef uint16_t Stored;
  static void store(uint16_t *p, F v) {
    float values[LANES];
    f_store(values, v);
    for (int i = 0; i < LANES; i++) p[i] = float_to_bfloat(values[i]);
  }
  static F load(const uint16_t *p) { return f_from_bfloat(p); }
  static uint16_t narrow(float x) { return float_to_bfloat(x); }
  static float widen(uint16_t x) { return bfloat_to_float(x); }
};

template <class T> static inline void narrow_row(const float *x, int64_t count, typename T::Stored *out) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) T::store(out + i, f_load(x + i));
  for (; i < count; i++) out[i] = T::narrow(x[i]);
}
