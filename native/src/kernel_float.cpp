#include "kernels.h"
#include "simd.h"
#include "stored.h"

/* Vectors of columns at a time: with FLOAT_ROWS of them, as many sums as registers hold. */
static constexpr int VECTORS = 2;
/* Bytes ahead that are asked for: as long as memory takes to answer. */
static constexpr int AHEAD_BYTES = 4096;

template <class T, int ROWS> static void multiply(const FloatTile &t) {
  for (int column = 0; column < FLX_PANEL; column += VECTORS * LANES) {
    F sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < VECTORS; v++) sums[r][v] = t.first ? f_set(0) : f_load(t.c + r * FLX_PANEL + column + v * LANES);
    const typename T::Stored *w = static_cast<const typename T::Stored *>(t.weights) + column;
    const float *x = t.x;
    const uint8_t *ahead = t.ahead ? t.ahead : reinterpret_cast<const uint8_t *>(w) + AHEAD_BYTES;
    const int64_t step = t.ahead ? t.ahead_bytes : static_cast<int64_t>(sizeof(*w)) * FLX_PANEL;
    for (int64_t k = 0; k < t.k; k++, w += FLX_PANEL, x += ROWS, ahead += step) {
      __builtin_prefetch(ahead, 0, 2);
      if (sizeof(*w) * VECTORS * LANES > 64) __builtin_prefetch(ahead + 64, 0, 2);
      F weights[VECTORS];
      for (int v = 0; v < VECTORS; v++) weights[v] = T::load(w + v * LANES);
      for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) sums[r][v] = f_fma(weights[v], f_set(x[r]), sums[r][v]);
    }
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < VECTORS; v++) f_store(t.c + r * FLX_PANEL + column + v * LANES, sums[r][v]);
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

#if defined(__AVX512BF16__) && !defined(FLX_ISA_TILES)
/* 12 x 2 sums, 2 vectors of weights, 1 of activations. */
template <int ROWS> static void multiply_pairs(const BfloatTile &t) {
  F sums[ROWS][VECTORS];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++) sums[r][v] = t.first ? f_set(0) : f_load(t.c + r * FLX_PANEL + v * LANES);
  const uint16_t *w = t.weights, *x = t.x;
  const uint8_t *ahead = t.ahead ? t.ahead : reinterpret_cast<const uint8_t *>(w) + AHEAD_BYTES;
  const int64_t step = t.ahead ? t.ahead_bytes : 4 * FLX_PANEL;
  for (int64_t pair = 0; pair < t.pairs; pair++, w += 2 * FLX_PANEL, x += 2 * ROWS, ahead += step) {
    for (int v = 0; v < VECTORS; v++) __builtin_prefetch(ahead + 64 * v, 0, 2);
    __m512bh weights[VECTORS];
    for (int v = 0; v < VECTORS; v++) weights[v] = (__m512bh)_mm512_loadu_si512(w + v * 2 * LANES);
    for (int r = 0; r < ROWS; r++) {
      int32_t both;
      std::memcpy(&both, x + 2 * r, 4);
      for (int v = 0; v < VECTORS; v++) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], weights[v], (__m512bh)i_set(both));
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++) f_store(t.c + r * FLX_PANEL + v * LANES, sums[r][v]);
}

template <int ROWS> static void choose_pairs(int64_t rows, const BfloatTile &t) {
  if (rows == ROWS) return multiply_pairs<ROWS>(t);
  if constexpr (ROWS > 1) choose_pairs<ROWS - 1>(rows, t);
}

void multiply_bfloats(int64_t rows, const BfloatTile &tile) { choose_pairs<FLOAT_ROWS>(rows, tile); }
#elif !defined(FLX_ISA_TILES)
void multiply_bfloats(int64_t, const BfloatTile &) {}
#endif
