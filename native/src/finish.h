#pragma once
#include "blocks.h"

/*
 * Bias, activation, factors and residual of panel `panel` for rows `from` to `to`, whose sums [to - from, 32] are at `c`, in the cache: to y. Changes what is at `c`.
 */
void finish_panel(const flx_linear &l, int64_t panel, float *c, int64_t from, int64_t to);
