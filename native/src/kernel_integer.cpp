#include <type_traits>

#include "kernels.h"
#include "panel.h"

#if !defined(FLX_ISA_AVX512)
/* How codes lie: bytes without a sign, [4 k][32 columns]. */
struct Unsigned {
  static constexpr bool SIGNED = false;
  static constexpr int STEP_BYTES = FLX_PANEL * 4; /* 4 k of all columns */
  static constexpr int COLUMN_BYTES = 4;           /* from column to column */
};
struct Signed : Unsigned {
  static constexpr bool SIGNED = true;
};

/* Adds the products of SPAN values of k: those of a group from its step (4 k) `from` on. */
#if defined(FLX_ISA_NEON)
#include "integer_neon.h"
#elif defined(__AVX2__)
#include "integer_avx2.h"
#else
template <int ROWS, int SPAN, class Codes, int STEPS> static inline void span_products(const int8_t *a, const uint8_t *group, int from, I (*products)[2]) {
  const uint8_t *w = group + from * FLX_PANEL * 4;
  for (int step = 0; step < SPAN / 4; step++, a += ROWS * 4, w += FLX_PANEL * 4)
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < 2 * LANES; c++)
        for (int i = 0; i < 4; i++)
          products[r][c / LANES][c % LANES] += (Codes::SIGNED ? static_cast<int8_t>(w[c * 4 + i]) : w[c * 4 + i]) * a[r * 4 + i];
}
#endif

/* 2 vectors of columns for ROWS rows. */
template <int ROWS> using Products = I[ROWS][2];

template <int ROWS> static void start(Products<ROWS> &products, const int32_t *offsets, int32_t first = 0) {
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < 2; v++) products[r][v] = i_set(offsets ? offsets[r] : first);
}

/* C += products, which began at SUM_START, * scales of group `g`. */
template <int ROWS> static inline void add_scaled(const IntegerTile &t, int column, int64_t g, const Products<ROWS> &products) {
  for (int v = 0; v < 2; v++) {
    const int c = column + v * LANES;
    const F scale = f_load(t.panel.scales + g * FLX_PANEL + c), begin = f_start_scaled(scale);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      float *sum = t.c + r * FLX_PANEL + c;
      f_store(sum, f_fma(f_sum_scaled(products[r][v], scale, begin), f_set(t.scales[g * ROWS + r]), f_load(sum)));
    }
  }
}

/* C += totals * scales of K block `block`. */
template <int ROWS> static inline void add_block(const IntegerTile &t, int column, int64_t block, const Products<ROWS> &totals) {
  for (int v = 0; v < 2; v++) {
    const int c = column + v * LANES;
    const F scale = f_load(t.panel.scales + block * FLX_PANEL + c);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      float *sum = t.c + r * FLX_PANEL + c;
      f_store(sum, f_fma(f_mul(f_from_i(totals[r][v]), scale), f_set(t.scales[block * ROWS + r]), f_load(sum)));
    }
  }
}

/* C += minima * sums of group `g`. */
template <int ROWS> static inline void add_minima(const IntegerTile &t, int column, int64_t g) {
  for (int v = 0; v < 2; v++) {
    const int c = column + v * LANES;
    const F minimum = f_load(t.panel.minima + g * FLX_PANEL + c);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
      float *sum = t.c + r * FLX_PANEL + c;
      f_store(sum, f_fma(minimum, f_set(t.sums[g * ROWS + r]), f_load(sum)));
    }
  }
}

/* Columns from `first` to `end`. Float sums stay in C, which is in the first cache: there are no registers for both kinds. */
template <int ROWS, bool ASKS, bool MINIMA, class Codes, int STEPS> FLX_APART static void multiply_groups(const IntegerTile &t, int first, int end) {
  for (int64_t g = 0; g < t.groups; g++) {
    if (ASKS) ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
    const int8_t *quants = t.quants + g * GROUP * ROWS;
    for (int column = first; column < end; column += 2 * LANES) {
      Products<ROWS> products;
      start<ROWS>(products, Codes::SIGNED ? nullptr : t.offsets + g * 2 * ROWS, SUM_START);
      span_products<ROWS, GROUP, Codes, STEPS>(quants, t.weights + g * t.weight_bytes + column * Codes::COLUMN_BYTES, 0, products);
      add_scaled<ROWS>(t, column, g, products);
      if (MINIMA) add_minima<ROWS>(t, column, g);
    }
  }
}

/* C -= minima * sums of quants times factors of the minima of a K block. */
template <int ROWS> static void subtract_block_minima(const IntegerTile &t, int column, int64_t block) {
  Products<ROWS> least;
  start<ROWS>(least, nullptr);
  for (int64_t pair = block * 4; pair < block * 4 + 4; pair++)
    for (int v = 0; v < 2; v++) {
      const int16_t *factors = t.panel.minimum_factors + (pair * FLX_PANEL + column + v * LANES) * 2;
      for (int r = 0; r < ROWS; r++) least[r][v] = i_add_pairs(least[r][v], factors, t.sum_pairs + (pair * ROWS + r) * 2);
    }
  for (int v = 0; v < 2; v++) {
    const int c = column + v * LANES;
    const F minimum = f_sub(f_set(0), f_load(t.panel.minima + block * FLX_PANEL + c));
    for (int r = 0; r < ROWS; r++) {
      float *sum = t.c + r * FLX_PANEL + c;
      f_store(sum, f_fma(f_mul(f_from_i(least[r][v]), minimum), f_set(t.scales[block * ROWS + r]), f_load(sum)));
    }
  }
}

/*
 * K blocks: both sides have one scale for 256 values, and the weights whole factors within, so that all of a block is summed in integers: below
 * 2^31, as 256 * 127 * 31 * 63 and 256 * 127 * 32 * 128 are.
 */
template <int ROWS, bool ASKS, int SPAN, bool MINIMA, class Codes, int STEPS> FLX_APART static void multiply_blocks(const IntegerTile &t, int column) {
  constexpr int SPANS = GROUP / SPAN, GROUPS = K_BLOCK / GROUP;
  for (int64_t block = 0; block < t.groups / GROUPS; block++) {
    Products<ROWS> totals;
    start<ROWS>(totals, nullptr);
    for (int64_t span = block * GROUPS * SPANS; span < (block + 1) * GROUPS * SPANS; span++) {
      const int64_t g = span / SPANS, in_group = span % SPANS;
      if (ASKS && in_group == 0) ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
      Products<ROWS> products;
      start<ROWS>(products, t.offsets + (g * 2 + in_group) * ROWS);
      const uint8_t *group = t.weights + g * t.weight_bytes + column * Codes::COLUMN_BYTES;
      span_products<ROWS, SPAN, Codes, STEPS>(t.quants + span * SPAN * ROWS, group, static_cast<int>(in_group) * SPAN / 4, products);
      for (int v = 0; v < 2; v++) {
        const I factors = i_from_bytes(t.panel.scale_factors + span * FLX_PANEL + column + v * LANES);
        for (int r = 0; r < ROWS; r++) totals[r][v] = i_add(totals[r][v], i_mul(products[r][v], factors));
      }
    }
    add_block<ROWS>(t, column, block, totals);
    if (MINIMA) subtract_block_minima<ROWS>(t, column, block);
  }
}

/* 2 vectors of columns of codes without a sign. */
template <int ROWS, bool ASKS> static void multiply_columns(const IntegerTile &t, int column) {
  const IntegerFormat &f = *integer_format(t.type);
  const int end = column + 2 * LANES;
  if (f.scale_values == 16) return multiply_blocks<ROWS, ASKS, 16, false, Unsigned, 2>(t, column);
  if (f.k_scales) return f.bits == 4 ? multiply_blocks<ROWS, ASKS, 32, true, Unsigned, 8>(t, column) : multiply_blocks<ROWS, ASKS, 32, true, Unsigned, 4>(t, column);
  if (f.bits == 4) return f.minimum ? multiply_groups<ROWS, ASKS, true, Unsigned, 8>(t, column, end) : multiply_groups<ROWS, ASKS, false, Unsigned, 8>(t, column, end);
  return f.minimum ? multiply_groups<ROWS, ASKS, true, Unsigned, 4>(t, column, end) : multiply_groups<ROWS, ASKS, false, Unsigned, 4>(t, column, end);
}

/* Calls work(number) with the number of rows as a constant. */
template <int ROWS, class Work> static void with_rows(int64_t rows, const Work &work) {
  if (rows == ROWS) return work(std::integral_constant<int, ROWS>{});
  if constexpr (ROWS > 1) with_rows<ROWS - 1>(rows, work);
}

/* Sums in registers. Of codes without a sign, the first columns read weights from memory, the others from the cache. */
static void multiply_row_block(int64_t rows, const IntegerTile &tile) {
  with_rows<INTEGER_ROWS>(rows, [&](auto number) {
    constexpr int ROWS = decltype(number)::value;
    if (signed_quants(tile.type)) return multiply_groups<ROWS, true, false, Signed, 1>(tile, 0, FLX_PANEL);
    tile.ahead_bytes > 0 ? multiply_columns<ROWS, true>(tile, 0) : multiply_columns<ROWS, false>(tile, 0);
    for (int column = 2 * LANES; column < FLX_PANEL; column += 2 * LANES) multiply_columns<ROWS, false>(tile, column);
  });
}

#if defined(__AVX2__)
void multiply_integers(int64_t rows, const IntegerTile &tile) {
  tile.table ? multiply_by_signs(rows, tile) : multiply_row_block(rows, tile);
}

int64_t packed_rows(int32_t) { return INTEGER_ROWS; }

/* The columns of the low nibbles, or of the high ones. */
template <int ROWS, int SHIFT> static void multiply_half(const IntegerTile &t) {
  constexpr bool ASKS = SHIFT == 0;
  constexpr int FIRST = SHIFT * LANES / 2, END = FIRST + 2 * LANES;
  switch (t.type) {
    case FLX_Q4_0: return multiply_groups<ROWS, ASKS, false, NibbleColumns<SHIFT, 0>, 8>(t, FIRST, END);
    case FLX_Q4_1: return multiply_groups<ROWS, ASKS, true, NibbleColumns<SHIFT, 0>, 8>(t, FIRST, END);
    case FLX_Q5_0: return multiply_groups<ROWS, ASKS, false, NibbleColumns<SHIFT, 1>, 4>(t, FIRST, END);
    case FLX_Q5_1: return multiply_groups<ROWS, ASKS, true, NibbleColumns<SHIFT, 1>, 4>(t, FIRST, END);
    case FLX_IQ4_NL: return multiply_groups<ROWS, ASKS, false, LookedColumns<SHIFT>, 1>(t, FIRST, END);
    case FLX_Q4_K: return multiply_blocks<ROWS, ASKS, 32, true, NibbleColumns<SHIFT, 0>, 8>(t, FIRST);
    case FLX_Q5_K: return multiply_blocks<ROWS, ASKS, 32, true, NibbleColumns<SHIFT, 1>, 4>(t, FIRST);
    case FLX_Q6_K: return multiply_blocks<ROWS, ASKS, 16, false, NibbleColumns<SHIFT, 2>, 2>(t, FIRST);
  }
}

template <int ROWS> static void multiply_codes(const IntegerTile &t) {
  if (t.type == FLX_Q8_0) return multiply_groups<ROWS, true, false, Signed, 1>(t, 0, FLX_PANEL);
  multiply_half<ROWS, 0>(t);
  multiply_half<ROWS, 4>(t);
}

/* Blocks of 32 values are asked for so many before they are read, 9 to 17 KB: what PACKED_AHEAD_BYTES asks for comes too late (docs/kernels.md). */
static constexpr int64_t GROUPS_AHEAD = 16;

void multiply_packed(int64_t rows, const IntegerTile &tile) {
  const IntegerFormat &f = *integer_format(tile.type);
  IntegerTile t = tile;
  t.ahead = tile.weights + (f.values == GROUP ? GROUPS_AHEAD * panel_block_bytes(f) : PACKED_AHEAD_BYTES);
  t.ahead_bytes = panel_block_bytes(f) * GROUP / f.values;
  if (f.values == GROUP) {
    unpack_headers(tile.type, tile.weights, tile.groups * GROUP, tile.panel);
    t.weights += header_bytes(f);
  }
  with_rows<INTEGER_ROWS>(rows, [&](auto number) { multiply_codes<decltype(number)::value>(t); });
}
#else
void multiply_integers(int64_t rows, const IntegerTile &tile) { multiply_row_block(rows, tile); }
int64_t packed_rows(int32_t) { return 0; }
void multiply_packed(int64_t, const IntegerTile &) {}
#endif

void multiply_and_unpack(int64_t rows, const IntegerTile &tile) {
  const int64_t count = tile.groups * GROUP;
  unpack_headers(tile.type, tile.packed, count, tile.panel);
  if (!in_kernel_form(tile.type)) unpack_codes(tile.type, tile.packed, count, tile.panel.quants);
  multiply_integers(rows, tile);
}
#endif
