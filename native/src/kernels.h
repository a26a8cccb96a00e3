/*
 * The innermost products: `rows` rows of activations with the 32 columns of a panel, over a piece of K. C [rows, 32] is written if `first`, otherwise
 * added to. A value of C is changed by one sum per group (integers) or per k (floats), in their order, whatever `rows` is.
 */
#pragma once
#include "activations.h"

struct IntegerTile {
  const int8_t *quants; /* [k / 4][rows][4] */
  const float *scales;  /* [groups][rows] */
  const int32_t *offsets;
  const float *sums;
  const uint8_t *weights; /* [k / 4][32][4] */
  const float *weight_scales; /* [groups][32] */
  const float *minima; /* or null */
  int64_t groups;
  float *c;
  int64_t ldc;
  bool first;
  bool is_signed; /* the weights */
};

struct FloatTile {
  const float *x; /* [k][rows] */
  const void *weights; /* [k][32] of `type` */
  int32_t type; /* FLX_F32, FLX_F16 or FLX_BF16 */
  int64_t k;
  float *c;
  int64_t ldc;
  bool first;
};

/* rows from 1 to INTEGER_ROWS */
void multiply_integers(int64_t rows, const IntegerTile &tile);
/* rows from 1 to FLOAT_ROWS */
void multiply_floats(int64_t rows, const FloatTile &tile);
