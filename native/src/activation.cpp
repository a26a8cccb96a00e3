#include "activation.h"

#include "../flexllmgen.h"

/* 2 sqrt(2 / pi): the argument of the logistic function that GELU's tanh is */
static constexpr float GELU_SLOPE = 1.5957691216057308f;
static constexpr float GELU_CUBIC = 0.044715f;
static constexpr float ROOT_HALF = 0.70710678118654752f;

static float logistic(float x) { return 1 / (1 + std::exp(-x)); }

static float activate_one(float x, int32_t activation) {
  switch (activation) {
    case FLX_RELU: return x < 0 ? 0 : x;
    case FLX_GELU: return 0.5f * x * (1 + std::erf(x * ROOT_HALF));
    case FLX_GELU_TANH: return x * logistic(GELU_SLOPE * (x + GELU_CUBIC * x * x * x));
    case FLX_SILU: return x * logistic(x);
    case FLX_SIGMOID: return logistic(x);
    default: return x;
  }
}

void activate(float *values, int64_t count, int32_t activation) {
  if (activation == FLX_NONE) return;
  for (int64_t i = 0; i < count; i++) values[i] = activate_one(values[i], activation);
}
