/*
 * Integer products by tiles. 16 rows and 16 columns of a group are one instruction; what takes the time is behind it: sums leave tiles by way of memory and are scaled
 * as in all kernels (kernel_integer_avx512.cpp: the same operations in the same order). So a tile is stored one group after it was filled, and read one group later.
 */
#include <type_traits>

#include "kernels.h"
#include "tiles.h"

#if defined(FLX_ISA_TILES)
static constexpr int64_t STORED_AFTER = 1, READ_AFTER = 2;
/* Groups whose sums are on their way: in tiles, and in memory. */
static constexpr int IN_TILES = 4, IN_MEMORY = 4;
static constexpr int64_t GROUPS = K_BLOCK / GROUP;

/* From so many bytes with each group on, memory is asked for what follows in two places by turns: it gives more then (docs/kernels.md). */
static constexpr int64_t LEAST_BY_TURNS = 512;

#define EACH_ROW(r) _Pragma("GCC unroll 16") for (int r = 0; r < ROWS; r++)

using Sums = int32_t[TILE_ROWS][LANES];

/* What sums of a group begin as: one line for all rows of a tile. */
alignas(64) static constexpr int32_t STARTS[LANES] = {SUM_START, SUM_START, SUM_START, SUM_START, SUM_START, SUM_START, SUM_START, SUM_START,
                                                      SUM_START, SUM_START, SUM_START, SUM_START, SUM_START, SUM_START, SUM_START, SUM_START};

/* Brings groups through tiles for 16 columns, from `column` on, and calls add(group, its sums) for one after the other. */
template <int ROWS, bool STARTED, class Add> static inline FLX_INLINE void each_group(const IntegerTile &t, int column, const Add &add) {
  alignas(64) Sums sums[IN_MEMORY];
  /* What is read next has one or two places; the first columns ask for the first half of each, the others for the second half. */
  const int64_t places = t.ahead_bytes < LEAST_BY_TURNS ? 1 : 2, share = t.ahead_bytes / (2 * places), place_bytes = 2 * share * t.groups;
  const uint8_t *ahead = t.ahead + (column == 0 ? 0 : share * t.groups);
  const auto multiply = [&](auto tile, int64_t g) FLX_INLINE {
    constexpr int TILE = decltype(tile)::value, A = TILE_A + TILE % 2, B = TILE_B + TILE % 2;
    if constexpr (STARTED) tile_load<TILE>(STARTS, 0);
    else tile_zero<TILE>();
    tile_load<A>(t.quants + g * GROUP * ROWS, GROUP);
    tile_load<B>(t.weights + g * t.weight_bytes + column * 4, FLX_PANEL * 4);
    tile_multiply_bytes<TILE, A, B>();
  };
  const auto step = [&](auto tile, int64_t g) FLX_INLINE {
    const int64_t stored = g - STORED_AFTER, read = g - READ_AFTER;
    if (g < t.groups) {
      for (int64_t place = 0; place < places; place++) ask_for(ahead + place * place_bytes + g * share, share);
      multiply(tile, g);
    }
    if (stored >= 0 && stored < t.groups) tile_store<(decltype(tile)::value + IN_TILES - STORED_AFTER) % IN_TILES>(sums[stored % IN_MEMORY], TILE_BYTES);
    if (read >= 0 && read < t.groups) add(read, sums[read % IN_MEMORY]);
  };
  for (int64_t g = 0; g < t.groups + READ_AFTER; g += IN_TILES) {
    step(std::integral_constant<int, 0>{}, g);
    step(std::integral_constant<int, 1>{}, g + 1);
    step(std::integral_constant<int, 2>{}, g + 2);
    step(std::integral_constant<int, 3>{}, g + 3);
  }
}

/* Weights and activations with a scale for each group. */
template <int ROWS, bool MINIMA> FLX_APART static void multiply_groups(const IntegerTile &t, int column) {
  F c[ROWS];
  EACH_ROW(r) c[r] = f_load(t.c + r * FLX_PANEL + column);
  each_group<ROWS, true>(t, column, [&](int64_t g, const Sums &sums) FLX_INLINE {
    const F scale = f_load(t.panel.scales + g * FLX_PANEL + column), start = f_start_scaled(scale);
    const F minimum = MINIMA ? f_load(t.panel.minima + g * FLX_PANEL + column) : f_set(0);
    EACH_ROW(r) {
      c[r] = f_fma(f_sum_scaled(_mm512_load_si512(sums[r]), scale, start), f_set(t.scales[g * ROWS + r]), c[r]);
      if (MINIMA) c[r] = f_fma(minimum, f_set(t.sums[g * ROWS + r]), c[r]);
    }
  });
  EACH_ROW(r) f_store(t.c + r * FLX_PANEL + column, c[r]);
}

/* C += totals of K block `block` times its scales, less its minima times sums of quants. */
template <int ROWS> static inline FLX_INLINE void add_block(const IntegerTile &t, int column, int64_t block, const F (&totals)[ROWS]) {
  constexpr int64_t PAIRS = GROUPS / 2;
  const F scale = f_load(t.panel.scales + block * FLX_PANEL + column), minimum = f_sub(f_set(0), f_load(t.panel.minima + block * FLX_PANEL + column));
  I factors[PAIRS];
  for (int64_t i = 0; i < PAIRS; i++) factors[i] = _mm512_loadu_si512(t.panel.minimum_factors + ((block * PAIRS + i) * FLX_PANEL + column) * 2);
  const float *scales = t.scales + block * ROWS;
  const int16_t *pairs = t.sum_pairs + block * PAIRS * ROWS * 2;
  EACH_ROW(r) {
    I least = i_set(0);
    for (int64_t i = 0; i < PAIRS; i++) least = _mm512_dpwssd_epi32(least, factors[i], load_four(pairs + (i * ROWS + r) * 2));
    float *c = t.c + r * FLX_PANEL + column;
    f_store(c, f_fma(f_fma(f_from_i(least), minimum, f_mul(totals[r], scale)), f_set(scales[r]), f_load(c)));
  }
}

/* K blocks with factors for each group. */
template <int ROWS> FLX_APART static void multiply_blocks(const IntegerTile &t, int column) {
  F totals[ROWS];
  EACH_ROW(r) totals[r] = f_set(0);
  each_group<ROWS, false>(t, column, [&](int64_t g, const Sums &sums) FLX_INLINE {
    const F factors = f_from_i(i_from_bytes(t.panel.scale_factors + g * FLX_PANEL + column));
    EACH_ROW(r) totals[r] = f_fma(f_from_i(_mm512_load_si512(sums[r])), factors, totals[r]);
    if (g % GROUPS != GROUPS - 1) return;
    add_block<ROWS>(t, column, g / GROUPS, totals);
    EACH_ROW(r) totals[r] = f_set(0);
  });
}

template <int ROWS> static void multiply_panel(const IntegerTile &t) {
  const IntegerFormat &f = *integer_format(t.type);
  for (int column = 0; column < FLX_PANEL; column += LANES)
    if (f.k_scales) multiply_blocks<ROWS>(t, column);
    else f.minimum ? multiply_groups<ROWS, true>(t, column) : multiply_groups<ROWS, false>(t, column);
}

template <int ROWS> static void choose(int64_t rows, const IntegerTile &t) {
  if (rows == ROWS) return multiply_panel<ROWS>(t);
  if constexpr (ROWS > 1) choose<ROWS - 1>(rows, t);
}

void multiply_by_tiles(int64_t rows, const IntegerTile &tile) {
  use_tiles(rows, rows, GROUP);
  choose<TILE_ROWS>(rows, tile);
}
#elif defined(FLX_ISA_AVX512)
void multiply_by_tiles(int64_t, const IntegerTile &) {}
#endif
