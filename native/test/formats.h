/* Weight types as GGUF files have them: random valid blocks, and their values by the formulas of ggml-quants.c (dequantize_row_*), in f64. */
#pragma once
#include "harness.h"

struct Format {
  int32_t type;
  const char *name;
  int values; /* of a block */
  int bytes;
};

enum class Scales { ORDINARY, EXTREME };

extern const std::vector<Format> FORMATS;
/* A type that the library does not know and has widened by a function of the caller. */
static constexpr int32_t FOREIGN_TYPE = 999;
extern const Format FOREIGN;
const Format &format_of(int32_t type);
bool is_float(const Format &format);

double from_half(uint16_t half);
double from_bfloat(uint16_t bfloat);
/* Rounds to the nearest, ties to even. */
uint16_t to_bfloat(float value);
uint16_t to_half(float value);

/* A matrix; `value` is what kernels get. w = codes - minima: the two parts that are summed separately. */
struct Weight {
  const Format &format;
  Array<uint8_t> data;
  flx_weight value;
  std::vector<double> codes;
  std::vector<double> minima;
  double at(int64_t i) const { return codes[static_cast<size_t>(i)] - minima[static_cast<size_t>(i)]; }
};

/* In panel order if `packed` and the library has one. */
Weight random_weight(const Test &test, Random &random, const Format &format, int64_t n, int64_t k, bool packed, Scales scales = Scales::ORDINARY);
