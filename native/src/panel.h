/*
 * Weights in panel order. A panel is FLX_PANEL rows, as many bytes as in the file's order, in pieces of one block of K for all rows:
 *
 *   floats        per k: the values of 32 rows
 *   Q8_0          per 32 k: 8 x 32 rows x 4 k of int8; 32 scales (f16)
 *   Q4_0, Q4_1    per 32 k: 8 x 16 rows x 4 k of bytes, low nibble row r, high nibble row r + 16; 32 scales; Q4_1: 32 minima (f16)
 *   Q4_K          per 256 k: 64 x 16 x 4 such bytes; 32 scales, 32 minima (f16); per 32 k: 32 scales, 32 minima (6 bits each, packed as in the file)
 */
#pragma once
#include "blocks.h"

/* What the integer kernel reads: quants as bytes [k / 4][32][4], and for each group 32 scales and 32 minima. */
struct IntegerPanel {
  uint8_t *quants;
  float *scales;
  float *minima;
};

/* Zero point of the bytes that `unpack_integer` writes. */
int32_t zero_point(int32_t type);
/* Whether those bytes are signed instead, as instruction sets want them that multiply no large unsigned bytes. */
bool signed_quants(int32_t type);

/* Brings panel `panel` of a weight in any order into the kernels' form, k from `k0` for `count` values (whole blocks). Missing rows are zeros. */
void unpack_integer(const flx_weight &weight, int64_t panel, int64_t k0, int64_t count, const IntegerPanel &out);
/* Float weights in panel order, [k][32] in their own type; null if this panel is in the file's order. */
const void *packed_panel(const flx_weight &weight, int64_t panel, int64_t k0);
/* The same as `unpack_integer`, as f32 [k][32]. Not for f32 in panel order, which is that already. */
void unpack_float(const flx_weight &weight, int64_t panel, int64_t k0, int64_t count, float *out);
/* Row `row` of a weight as f32. */
void unpack_row(const flx_weight &weight, int64_t row, float *out);
