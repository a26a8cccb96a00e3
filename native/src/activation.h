/* Activation functions and the exponential behind them, computed and not looked up. */
#pragma once
#include <cmath>

#include "simd.h"

/* exp(x) for x below 88.7; what is below -87.3 counts as that. No number stays none: minimum and maximum give their second operand then. */
static inline F f_exp(F x) {
  const F clamped = f_min(f_set(88.8f), f_max(f_set(-87.33654f), x));
  const F n = f_round(f_mul(clamped, f_set(1.44269504f)));
  /* ln 2 in two parts, the first of which has few bits, so that n times it is exact. */
  const F r = f_fma(n, f_set(2.12194440e-4f), f_fma(n, f_set(-0.693359375f), clamped));
  F p = f_set(1.9875691500e-4f);
  p = f_fma(p, r, f_set(1.3981999507e-3f));
  p = f_fma(p, r, f_set(8.3334519073e-3f));
  p = f_fma(p, r, f_set(4.1665795894e-2f));
  p = f_fma(p, r, f_set(1.6666665459e-1f));
  p = f_fma(p, r, f_set(5.0000001201e-1f));
  p = f_add(f_fma(p, f_mul(r, r), r), f_set(1));
  return f_scale(p, n);
}

/* activation[i] of values[0 ... count) in place */
void activate(float *values, int64_t count, int32_t activation);
