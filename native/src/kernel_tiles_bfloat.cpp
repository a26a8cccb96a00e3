/* Products of bf16 by tiles: 32 rows with the 32 columns of a panel. */
#include <type_traits>

#include "kernels.h"
#include "tiles.h"

#if defined(FLX_ISA_TILES)
static constexpr int64_t PAIRS = BFLOAT_SPAN / 2; /* of a tile */
static constexpr int64_t ROW = FLX_PANEL * 4;     /* bytes, of C and of a pair of weights */
/* Weights that are asked for before they are read, where a single block of rows passes by. */
static constexpr int64_t AHEAD_BYTES = 8192;

/* All of C, of 16 rows or, with SECOND, of more. */
template <bool SECOND, class Work> static inline void each_of_c(float *c, const Work &work) {
  work(std::integral_constant<int, TILE_C>{}, c);
  work(std::integral_constant<int, TILE_C + 1>{}, c + LANES);
  if (!SECOND) return;
  work(std::integral_constant<int, TILE_C + 2>{}, c + TILE_ROWS * FLX_PANEL);
  work(std::integral_constant<int, TILE_C + 3>{}, c + TILE_ROWS * FLX_PANEL + LANES);
}

/* 32 of k. */
template <bool SECOND> static inline void multiply_span(const uint16_t *x, const uint16_t *weights) {
  tile_load<TILE_B>(weights, ROW);
  tile_load<TILE_A>(x, TILE_BYTES);
  tile_multiply_bfloats<TILE_C, TILE_A, TILE_B>();
  tile_load<TILE_B + 1>(weights + 2 * LANES, ROW);
  tile_multiply_bfloats<TILE_C + 1, TILE_A, TILE_B + 1>();
  if (!SECOND) return;
  tile_load<TILE_A + 1>(x + TILE_ROWS * BFLOAT_SPAN, TILE_BYTES);
  tile_multiply_bfloats<TILE_C + 2, TILE_A + 1, TILE_B>();
  tile_multiply_bfloats<TILE_C + 3, TILE_A + 1, TILE_B + 1>();
}

template <bool SECOND> static void multiply(int64_t rows, const BfloatTile &t) {
  each_of_c<SECOND>(t.c, [&](auto tile, const float *c) {
    constexpr int TILE = decltype(tile)::value;
    t.first ? tile_zero<TILE>() : tile_load<TILE>(c, ROW);
  });
  const uint16_t *x = t.x, *weights = t.weights;
  const uint8_t *ahead = t.ahead ? t.ahead : reinterpret_cast<const uint8_t *>(weights) + AHEAD_BYTES;
  const int64_t step = PAIRS * (t.ahead ? t.ahead_bytes : ROW);
  int64_t pairs = t.pairs;
  for (; pairs >= PAIRS; pairs -= PAIRS, x += rows * BFLOAT_SPAN, weights += PAIRS * 2 * FLX_PANEL, ahead += step) {
    ask_for(ahead, step);
    multiply_span<SECOND>(x, weights);
  }
  if (pairs > 0) { /* what follows the last pairs may be no number */
    alignas(64) uint16_t rest[PAIRS * 2 * FLX_PANEL] = {};
    std::memcpy(rest, weights, static_cast<size_t>(pairs * ROW));
    multiply_span<SECOND>(x, rest);
  }
  each_of_c<SECOND>(t.c, [](auto tile, float *c) { tile_store<decltype(tile)::value>(c, ROW); });
}

void multiply_bfloats(int64_t rows, const BfloatTile &tile) {
  const int64_t first = rows < TILE_ROWS ? rows : TILE_ROWS;
  use_tiles(first, rows - first, 2 * BFLOAT_SPAN);
  rows > first ? multiply<true>(rows, tile) : multiply<false>(rows, tile);
}
#endif
