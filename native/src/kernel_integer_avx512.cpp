#include <type_traits>

#include "kernels.h"
#include "quants.h"

#if defined(FLX_ISA_AVX512)
const int64_t PACKED_ROWS = 2 * INTEGER_ROWS;
/* Measured: with 4 KiB one row is read at half the speed. */
static constexpr int64_t AHEAD_BYTES = 2048;

/* Where scales and minima are: as floats in the tile, or as they are in the header before each group. */
struct Unpacked {
  static constexpr int BYTES = 0, BYTES_WITH_MINIMA = 0;
  static F scale(const IntegerTile &t, const uint8_t *, int64_t span, int v) { return f_load(t.weight_scales + span * FLX_PANEL + v * LANES); }
  static F minimum(const IntegerTile &t, const uint8_t *, int64_t span, int v) { return f_sub(f_set(0), f_load(t.minima + span * FLX_PANEL + v * LANES)); }
};
struct Header {
  static constexpr int BYTES = 2 * FLX_PANEL, BYTES_WITH_MINIMA = 4 * FLX_PANEL;
  static F scale(const IntegerTile &, const uint8_t *header, int64_t, int v) { return f_from_half(reinterpret_cast<const uint16_t *>(header) + v * LANES); }
  static F minimum(const IntegerTile &, const uint8_t *header, int64_t, int v) {
    return f_from_half(reinterpret_cast<const uint16_t *>(header) + FLX_PANEL + v * LANES);
  }
};

/*
 * 6 x 2 vectors of integer sums and as many of float sums: 24 registers, 2 for weights and 1 for an activation. Scales are those of SPAN values, 32
 * or 16.
 */
template <int ROWS, bool MINIMA, int SPAN, class Form, class Scales> static void multiply(const IntegerTile &t, int64_t bytes) {
  constexpr int V = 2, SPANS = GROUP / SPAN;
  F sums[ROWS][V];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < V; v++) sums[r][v] = t.first ? f_set(0) : f_load(t.c + r * FLX_PANEL + v * LANES);
  const int8_t *a = t.quants;
  for (int64_t g = 0; g < t.groups; g++) {
    const uint8_t *block = t.weights + g * bytes;
    const uint8_t *w = block + (MINIMA ? Scales::BYTES_WITH_MINIMA : Scales::BYTES);
    for (int span = 0; span < SPANS; span++) {
      I products[ROWS][V];
      for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < V; v++) products[r][v] = i_set(t.offsets[(g * 2 + span) * ROWS + r]);
      for (int step = span * SPAN / 4; step < (span + 1) * SPAN / 4; step++, a += ROWS * 4) {
        I weights[V];
        Form::load(w, step, weights);
        for (int r = 0; r < ROWS; r++) {
          int32_t four;
          std::memcpy(&four, a + r * 4, 4);
          for (int v = 0; v < V; v++) products[r][v] = _mm512_dpbusd_epi32(products[r][v], weights[v], i_set(four));
        }
      }
      for (int v = 0; v < V; v++) {
        const F scale = Scales::scale(t, block, g * SPANS + span, v);
        for (int r = 0; r < ROWS; r++)
          sums[r][v] = f_fma(f_mul(f_from_i(products[r][v]), scale), f_set(t.scales[g * ROWS + r]), sums[r][v]);
        if (!MINIMA) continue;
        const F minimum = Scales::minimum(t, block, g, v);
        for (int r = 0; r < ROWS; r++) sums[r][v] = f_fma(minimum, f_set(t.sums[g * ROWS + r]), sums[r][v]);
      }
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < V; v++) f_store(t.c + r * FLX_PANEL + v * LANES, sums[r][v]);
}

template <int ROWS, class Form, class Scales> static void choose(int64_t rows, const IntegerTile &t, int64_t bytes) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) choose<ROWS - 1, Form, Scales>(rows, t, bytes);
    return;
  }
  const IntegerFormat &f = *integer_format(t.type);
  if constexpr (std::is_same_v<Scales, Unpacked>)
    if (f.scale_values == 16) return multiply<ROWS, false, 16, Form, Scales>(t, bytes);
  if (f.minimum) multiply<ROWS, true, 32, Form, Scales>(t, bytes);
  else multiply<ROWS, false, 32, Form, Scales>(t, bytes);
}

void multiply_integers(int64_t rows, const IntegerTile &tile) { choose<INTEGER_ROWS, Bytes, Unpacked>(rows, tile, GROUP * FLX_PANEL); }

/* Reads memory straight on and asks for none beforehand: the processor does that better, with more requests under way. */
void multiply_packed(int64_t rows, const IntegerTile &tile) {
  const IntegerFormat &f = *integer_format(tile.type);
  with_form(tile.type, [&](auto form) {
    if (f.values == GROUP) choose<INTEGER_ROWS, decltype(form), Header>(rows, tile, panel_block_bytes(f));
    else choose<INTEGER_ROWS, decltype(form), Unpacked>(rows, tile, group_bytes(f));
  });
}
#endif
