#include "kernels.h"
#include "simd.h"

/* Vectors of columns at a time: with FLOAT_ROWS of them, as many sums as registers hold. */
static constexpr int VECTORS = 2;

struct Floats { typedef float Stored; static F load(const float *p) { return f_load(p); } };
struct Halves { typedef uint16_t Stored; static F load(const uint16_t *p) { return f_from_half(p); } };
struct Bfloats { typedef uint16_t Stored; static F load(const uint16_t *p) { return f_from_bfloat(p); } };

/* Bytes ahead that are asked for: as long as memory takes to answer. */
static constexpr int AHEAD_BYTES = 4096;

template <class T, int ROWS> static void multiply(const FloatTile &t) {
  for (int column = 0; column < FLX_PANEL; column += VECTORS * LANES) {
    F sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < VECTORS; v++) sums[r][v] = t.first ? f_set(0) : f_load(t.c + r * t.ldc + column + v * LANES);
    const typename T::Stored *w = static_cast<const typename T::Stored *>(t.weights) + column;
    const float *x = t.x;
    for (int64_t k = 0; k < t.k; k++, w += FLX_PANEL, x += ROWS) {
      __builtin_prefetch(reinterpret_cast<const char *>(w) + AHEAD_BYTES, 0, 2);
      if (sizeof(*w) * VECTORS * LANES > 64) __builtin_prefetch(reinterpret_cast<const char *>(w) + AHEAD_BYTES + 64, 0, 2);
      F weights[VECTORS];
      for (int v = 0; v < VECTORS; v++) weights[v] = T::load(w + v * LANES);
      for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = f_fma(weights[v], f_set(x[r]), sums[r][v]);
    }
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < VECTORS; v++) f_store(t.c + r * t.ldc + column + v * LANES, sums[r][v]);
  }
}

template <int ROWS> static void choose(int64_t rows, const FloatTile &t) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) choose<ROWS - 1>(rows, t);
    return;
  }
  if (t.type == FLX_F32) multiply<Floats, ROWS>(t);
  else if (t.type == FLX_F16) multiply<Halves, ROWS>(t);
  else multiply<Bfloats, ROWS>(t);
}

void multiply_floats(int64_t rows, const FloatTile &tile) { choose<FLOAT_ROWS>(rows, tile); }
