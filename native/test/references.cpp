#include "references.h"

#include <algorithm>

/* The smallest normal float, and the smallest of all. */
static constexpr double NORMAL = 0x1p-126, SMALLEST = 0x1p-149;
/* What is rounded together and nowhere larger counts as zeros. */
static constexpr float LEAST_OF_GROUP = 0x1p-118f;

static bool in_bytes(const Format &f) { return !is_float(f) && f.type != FOREIGN_TYPE; }

/* As llama.cpp: 127 stands for the largest. In f32, since another rounding would give other integers. */
static void round_group(const float *x, int64_t count, double *out) {
  float most = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; i++) {
    finite = finite && std::isfinite(x[i]);
    most = std::max(most, std::fabs(x[i]));
  }
  const float inverse = most < LEAST_OF_GROUP ? 0 : 127 / most, scale = most / 127;
  for (int64_t i = 0; i < count; i++) out[i] = finite ? static_cast<double>(std::nearbyint(x[i] * inverse)) * static_cast<double>(scale) : NAN;
}

std::vector<double> rounded_activations(const Test &test, const Format &f, const float *x, int64_t m, int64_t k) {
  std::vector<double> values(static_cast<size_t>(m * k));
  if (in_bytes(f)) {
    for (int64_t i = 0; i < m * k; i += f.values) round_group(x + i, f.values, &values[static_cast<size_t>(i)]);
    return values;
  }
  const bool exact = test.lib.exact(FLX_BF16) || f.type == FLX_F32 || f.type == FLX_F16;
  for (int64_t i = 0; i < m * k; i++) values[static_cast<size_t>(i)] = exact ? static_cast<double>(x[i]) : from_bfloat(to_bfloat(x[i]));
  return values;
}

/* Sums of scale times codes and of minima, for 16 values: no type has scales for less. */
static void add_bytes(const double *x, const Weight &w, int64_t at, double &value, double &size) {
  for (int64_t i = 0; i < w.value.k; i += 16) {
    double codes = 0, minima = 0;
    for (int64_t j = i; j < i + 16; j++) {
      codes += x[j] * w.codes[static_cast<size_t>(at + j)];
      minima += x[j] * w.minima[static_cast<size_t>(at + j)];
    }
    value += codes - minima;
    size += std::fabs(codes) + std::fabs(minima);
  }
}

Expected linear_reference(const Test &test, const Weight &w, const float *x, int64_t m) {
  const int64_t n = w.value.n, k = w.value.k;
  const bool bytes = in_bytes(w.format);
  const bool bfloats = !bytes && !test.lib.exact(FLX_BF16) && w.format.type != FLX_F32 && w.format.type != FLX_F16;
  const std::vector<double> rounded = rounded_activations(test, w.format, x, m, k);
  Expected y;
  for (int64_t row = 0; row < m; row++)
    for (int64_t column = 0; column < n; column++) {
      const double *a = &rounded[static_cast<size_t>(row * k)];
      double value = 0, size = 0, lost = static_cast<double>(k) * (bfloats ? NORMAL : SMALLEST);
      if (bytes) add_bytes(a, w, column * k, value, size);
      for (int64_t i = 0; i < (bytes ? 0 : k); i++) {
        double weight = w.at(column * k + i);
        if (bfloats && w.format.type == FOREIGN_TYPE) weight = from_bfloat(to_bfloat(static_cast<float>(weight)));
        value += a[i] * weight;
        size += std::fabs(a[i] * weight);
        if (bfloats && (std::fabs(a[i]) < NORMAL || std::fabs(weight) < NORMAL)) lost += std::fabs(a[i] * weight);
      }
      const double sums = bytes ? static_cast<double>(k) / 16 + 2 : static_cast<double>(k);
      y.values.push_back(value);
      y.bounds.push_back(2 * sums * U * size + lost);
    }
  return y;
}

double activation_reference(double x, int32_t activation) {
  switch (activation) {
    case FLX_RELU: return x < 0 ? 0 : x;
    case FLX_GELU: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case FLX_GELU_TANH: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case FLX_SILU: return x / (1 + std::exp(-x));
    case FLX_SIGMOID: return 1 / (1 + std::exp(-x));
    default: return x;
  }
}

double activation_bound(double x, double bound) {
  constexpr double STEEPEST = 1.13; /* GELU's slope */
  return STEEPEST * bound + 4 * U * std::max(1.0, std::fabs(x));
}
