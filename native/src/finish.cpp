#include "finish.h"

#include <algorithm>
#include <cstring>

#include "activation.h"
#include "simd.h"

/*
 * Stores wait for their lines one after the other. Rows of y are often a multiple of 4 KiB apart: few lines of them are in the first cache together, so they
 * are asked for a few rows before.
 */
static constexpr int64_t ROWS_AHEAD = 8;

void finish_panel(const flx_linear &l, int64_t panel, float *c, int64_t from, int64_t to) {
  const int64_t column = panel * FLX_PANEL, columns = std::min<int64_t>(FLX_PANEL, l.weight.n - column);
  for (int64_t row = from; row < to; row++, c += FLX_PANEL) {
    float *y = l.y + row * l.ldy + column;
    for (int i = 0; i < FLX_PANEL; i += 16) __builtin_prefetch(y + ROWS_AHEAD * l.ldy + i, 1);
    if (columns == FLX_PANEL && !l.bias && !l.factors && !l.residual && l.activation == FLX_NONE) {
      for (int i = 0; i < FLX_PANEL; i += LANES) f_store(y + i, f_load(c + i));
      continue;
    }
    if (l.bias)
      for (int64_t i = 0; i < columns; i++) c[i] += l.bias[column + i];
    activate(c, columns, l.activation);
    if (l.factors)
      for (int64_t i = 0; i < columns; i++) c[i] *= l.factors[row * l.ldy + column + i];
    if (l.residual)
      for (int64_t i = 0; i < columns; i++) c[i] += l.residual[row * l.ldy + column + i];
    std::memcpy(y, c, static_cast<size_t>(columns) * 4);
  }
}
