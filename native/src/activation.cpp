#include "activation.h"

#include "../flexllmgen.h"

/* 2 sqrt(2 / pi): the argument of the logistic function that GELU's tanh is */
static constexpr float GELU_SLOPE = 1.5957691216057308f;
static constexpr float GELU_CUBIC = 0.044715f;
static constexpr float ROOT_HALF = 0.70710678118654752f;

static F logistic(F x) { return f_set(1) / f_add(f_set(1), f_exp(f_sub(f_set(0), x))); }

static F activate_lanes(F x, int32_t activation) {
  if (activation == FLX_SILU) return f_mul(x, logistic(x));
  if (activation == FLX_SIGMOID) return logistic(x);
  const F cubic = f_fma(f_mul(f_mul(x, x), x), f_set(GELU_CUBIC), x);
  return f_mul(x, logistic(f_mul(cubic, f_set(GELU_SLOPE))));
}

static float activate_one(float x, int32_t activation) {
  if (activation == FLX_RELU) return x < 0 ? 0 : x;
  return 0.5f * x * (1 + std::erf(x * ROOT_HALF));
}

void activate(float *values, int64_t count, int32_t activation) {
  if (activation == FLX_NONE) return;
  if (activation == FLX_RELU || activation == FLX_GELU) {
    for (int64_t i = 0; i < count; i++) values[i] = activate_one(values[i], activation);
    return;
  }
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) f_store(values + i, activate_lanes(f_load(values + i), activation));
  /* The rest in the same way, or a value would depend on its column. */
  float rest[LANES] = {};
  std::memcpy(rest, values + i, static_cast<size_t>(count - i) * 4);
  f_store(rest, activate_lanes(f_load(rest), activation));
  std::memcpy(values + i, rest, static_cast<size_t>(count - i) * 4);
}
