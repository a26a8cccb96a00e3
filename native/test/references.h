/* What kernels should compute, by naive loops in f64, and how far from it they may be: the bounds of flexllmgen.h. */
#pragma once
#include "formats.h"

struct Expected {
  std::vector<double> values;
  std::vector<double> bounds;
};

/* Activations [m, k] as products with weights of this format see them: as they are, or rounded to bf16, or to 8 bits in groups as long as a block. */
std::vector<double> rounded_activations(const Test &test, const Format &format, const float *x, int64_t m, int64_t k);

/* x[m, k] W^T */
Expected linear_reference(const Test &test, const Weight &weight, const float *x, int64_t m);

double activation_reference(double x, int32_t activation);
/* Of `activation_reference` for values with an error of `bound`. */
double activation_bound(double x, double bound);
