/* Types of floats in memory: how they are loaded as vectors, narrowed and widened. */
#pragma once
#include "simd.h"

struct Floats {
  typedef float Stored;
  static F load(const float *p) { return f_load(p); }
  static float narrow(float x) { return x; }
  static float widen(float x) { return x; }
};

struct Halves {
  typedef uint16_t Stored;
  static F load(const uint16_t *p) { return f_from_half(p); }
  static uint16_t narrow(float x) { return float_to_half(x); }
  static float widen(uint16_t x) { return half_to_float(x); }
};

struct Bfloats {
  typedef uint16_t Stored;
  static F load(const uint16_t *p) { return f_from_bfloat(p); }
  static uint16_t narrow(float x) { return float_to_bfloat(x); }
  static float widen(uint16_t x) { return bfloat_to_float(x); }
};
