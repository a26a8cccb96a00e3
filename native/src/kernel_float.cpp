#include "kernels.h"
#include "simd.h"

/* Vectors of columns at a time: with FLOAT_ROWS of them, as many sums as registers hold. */
static constexpr int VECTORS = 2;

template <int ROWS> static void multiply(const FloatTile &t) {
  for (int column = 0; column < FLX_PANEL; column += VECTORS * LANES) {
    F sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < VECTORS; v++) sums[r][v] = t.first ? f_set(0) : f_load(t.c + r * t.ldc + column + v * LANES);
    const float *w = t.weights + column;
    const float *x = t.x;
    for (int64_t k = 0; k < t.k; k++, w += FLX_PANEL, x += ROWS) {
      F weights[VECTORS];
      for (int v = 0; v < VECTORS; v++) weights[v] = f_load(w + v * LANES);
      for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = f_fma(weights[v], f_set(x[r]), sums[r][v]);
    }
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < VECTORS; v++) f_store(t.c + r * t.ldc + column + v * LANES, sums[r][v]);
  }
}

template <int ROWS> static void choose(int64_t rows, const FloatTile &t) {
  if (rows == ROWS) return multiply<ROWS>(t);
  if constexpr (ROWS > 1) choose<ROWS - 1>(rows, t);
}

void multiply_floats(int64_t rows, const FloatTile &tile) { choose<FLOAT_ROWS>(rows, tile); }
