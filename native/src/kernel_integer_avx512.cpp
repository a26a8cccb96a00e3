#include <type_traits>

#include "kernels.h"
#include "panel.h"
#include "quants.h"

#if defined(FLX_ISA_AVX512)
/* Rows that unpack a weight together: their float sums are in the first cache, the sums of products in 24 registers. */
static constexpr int TOGETHER = 2 * INTEGER_ROWS;
/* Codes of Q8_0 need no unpacking: more rows than registers have sums for would only pass by more slowly. */
int64_t packed_rows(int32_t type) { return type == FLX_Q8_0 ? 10 : TOGETHER; }

/* Where scales and minima of a group are: as floats in the tile, or as they are in the header before it. */
struct Unpacked {
  static constexpr int BYTES = 0, BYTES_WITH_MINIMA = 0;
  static F scale(const IntegerTile &t, const uint8_t *, int64_t g, int v) { return f_load(t.weight_scales + g * FLX_PANEL + v * LANES); }
  static F minimum(const IntegerTile &t, const uint8_t *, int64_t g, int v) { return f_sub(f_set(0), f_load(t.minima + g * FLX_PANEL + v * LANES)); }
};
struct Header {
  static constexpr int BYTES = 2 * FLX_PANEL, BYTES_WITH_MINIMA = 4 * FLX_PANEL;
  static F scale(const IntegerTile &, const uint8_t *header, int64_t, int v) { return f_from_half(reinterpret_cast<const uint16_t *>(header) + v * LANES); }
  static F minimum(const IntegerTile &, const uint8_t *header, int64_t, int v) {
    return f_from_half(reinterpret_cast<const uint16_t *>(header) + FLX_PANEL + v * LANES);
  }
};

/*
 * Weights are asked for so far ahead, all of them: the processor's own prefetching stops at pages of 4 KiB and falls behind where products take as long as memory
 * does. With fewer rows of groups it keeps more requests under way than asking does. Measured from 2 to 12 KiB: docs/kernels.md.
 */
static constexpr int64_t AHEAD_BYTES = 6144;
static constexpr int ROWS_THAT_ASK = 4;
static constexpr int V = FLX_PANEL / LANES;

/* All rows at once: sums in registers are arrays that no index is left in. */
#define EACH_ROW(r) _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++)

template <int ROWS> static inline void load_sums(const IntegerTile &t, bool first, F (&sums)[ROWS][V]) {
  EACH_ROW(r)
    for (int v = 0; v < V; v++) sums[r][v] = first ? f_set(0) : f_load(t.c + r * FLX_PANEL + v * LANES);
}

template <int ROWS> static inline void store_sums(const IntegerTile &t, const F (&sums)[ROWS][V]) {
  EACH_ROW(r)
    for (int v = 0; v < V; v++) f_store(t.c + r * FLX_PANEL + v * LANES, sums[r][v]);
}

/* Exact products of `VALUES` values, `span` of a group: 12 sums, 2 vectors of weights, 1 of activations. */
template <int ROWS, int VALUES, class Form>
static inline void multiply_span(const int8_t *a, const uint8_t *w, int span, const int32_t *offsets, I (&products)[ROWS][V]) {
  EACH_ROW(r)
    for (int v = 0; v < V; v++) products[r][v] = i_set(offsets[r]);
#pragma GCC unroll 8
  for (int i = 0; i < VALUES / 4; i++) {
    const int step = span * (VALUES / 4) + i;
    I weights[V];
    Form::load(w, step, weights);
    EACH_ROW(r) {
      int32_t four;
      std::memcpy(&four, a + (step * ROWS + r) * 4, 4);
      for (int v = 0; v < V; v++) products[r][v] = _mm512_dpbusd_epi32(products[r][v], weights[v], i_set(four));
    }
  }
}

/* Weights and activations with a scale for each group. */
template <int ROWS, bool MINIMA, class Form, class Scales> static void multiply_groups(const IntegerTile &t) {
  constexpr bool PACKED = std::is_same_v<Scales, Header>;
  const int8_t *a = t.quants;
  const uint8_t *block = t.weights;
  for (int64_t g = 0; g < t.groups; g++, a += GROUP * ROWS, block += t.weight_bytes) {
    if (!PACKED) ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
    else if (ROWS >= ROWS_THAT_ASK) ask_for(block + AHEAD_BYTES, t.weight_bytes);
    I products[ROWS][V];
    multiply_span<ROWS, GROUP, Form>(a, block + (MINIMA ? Scales::BYTES_WITH_MINIMA : Scales::BYTES), 0, t.offsets + g * 2 * ROWS, products);
    for (int v = 0; v < V; v++) {
      const F scale = Scales::scale(t, block, g, v);
      const F minimum = MINIMA ? Scales::minimum(t, block, g, v) : f_set(0);
      EACH_ROW(r) {
        float *c = t.c + r * FLX_PANEL + v * LANES;
        F sum = t.first && g == 0 ? f_set(0) : f_load(c);
        sum = f_fma(f_mul(f_from_i(products[r][v]), scale), f_set(t.scales[g * ROWS + r]), sum);
        if (MINIMA) sum = f_fma(minimum, f_set(t.sums[g * ROWS + r]), sum);
        f_store(c, sum);
      }
    }
  }
}

/* Sums of quants times factors of the minima of a K block. */
template <int ROWS> static inline void sum_minima(const IntegerTile &t, int64_t block, I (&least)[ROWS][V]) {
  EACH_ROW(r)
    for (int v = 0; v < V; v++) least[r][v] = i_set(0);
  for (int64_t pair = block * 4; pair < block * 4 + 4; pair++)
    for (int v = 0; v < V; v++) {
      const I factors = _mm512_loadu_si512(t.minimum_factors + (pair * FLX_PANEL + v * LANES) * 2);
      EACH_ROW(r) {
        int32_t two;
        std::memcpy(&two, t.sum_pairs + (pair * ROWS + r) * 2, 4);
        least[r][v] = _mm512_dpwssd_epi32(least[r][v], factors, i_set(two));
      }
    }
}

/*
 * K blocks: both sides have one scale for 256 values, and the weights whole factors within, so that all of a block is summed in integers: below
 * 2^31, as 256 * 127 * 31 * 63 and 256 * 127 * 32 * 128 are.
 */
template <int ROWS, int VALUES, bool MINIMA, class Form> static void multiply_blocks(const IntegerTile &t) {
  constexpr int SPANS = GROUP / VALUES, GROUPS = 8;
  const int8_t *a = t.quants;
  const uint8_t *w = t.weights;
  const int64_t share = panel_block_bytes(*integer_format(t.type)) / GROUPS;
  for (int64_t block = 0; block < t.groups / GROUPS; block++) {
    const uint8_t *next = w + AHEAD_BYTES;
    I totals[ROWS][V];
    EACH_ROW(r)
      for (int v = 0; v < V; v++) totals[r][v] = i_set(0);
    for (int64_t g = block * GROUPS; g < (block + 1) * GROUPS; g++, a += GROUP * ROWS, w += t.weight_bytes) {
      if (std::is_same_v<Form, Bytes>) ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
      else ask_for(next + (g - block * GROUPS) * share, share);
      for (int span = 0; span < SPANS; span++) {
        I products[ROWS][V];
        multiply_span<ROWS, VALUES, Form>(a, w, span, t.offsets + (g * 2 + span) * ROWS, products);
        for (int v = 0; v < V; v++) {
          const I factors = _mm512_loadu_si512(t.scale_factors + (g * SPANS + span) * FLX_PANEL + v * LANES);
          EACH_ROW(r) totals[r][v] = _mm512_add_epi32(totals[r][v], _mm512_mullo_epi32(products[r][v], factors));
        }
      }
    }
    F sums[ROWS][V];
    load_sums(t, t.first && block == 0, sums);
    const float *scales = t.scales + block * ROWS;
    EACH_ROW(r)
      for (int v = 0; v < V; v++)
        sums[r][v] = f_fma(f_mul(f_from_i(totals[r][v]), f_load(t.weight_scales + block * FLX_PANEL + v * LANES)), f_set(scales[r]), sums[r][v]);
    if (MINIMA) {
      I least[ROWS][V];
      sum_minima(t, block, least);
      EACH_ROW(r)
        for (int v = 0; v < V; v++)
          sums[r][v] = f_fma(f_mul(f_from_i(least[r][v]), f_load(t.minima + block * FLX_PANEL + v * LANES)), f_set(-scales[r]), sums[r][v]);
    }
    store_sums(t, sums);
  }
}

/* How weights are read, and what scales they have: SPAN values share a whole factor within a K block, 0: there is none. */
template <class FORM, int SPAN, bool MINIMA, class SCALES> struct Kind {
  template <int ROWS> static void multiply(const IntegerTile &t) {
    if constexpr (SPAN > 0) multiply_blocks<ROWS, SPAN, MINIMA, FORM>(t);
    else multiply_groups<ROWS, MINIMA, FORM, SCALES>(t);
  }
};

template <class Kind, int ROWS = TOGETHER> static void choose(int64_t rows, const IntegerTile &t) {
  if (rows == ROWS) return Kind::template multiply<ROWS>(t);
  if constexpr (ROWS > 1) choose<Kind, ROWS - 1>(rows, t);
}

void multiply_integers(int64_t rows, const IntegerTile &tile) {
  const IntegerFormat &f = *integer_format(tile.type);
  if (f.scale_values == 16) choose<Kind<Bytes, 16, false, Unpacked>>(rows, tile);
  else if (f.k_scales) choose<Kind<Bytes, 32, true, Unpacked>>(rows, tile);
  else if (f.minimum) choose<Kind<Bytes, 0, true, Unpacked>>(rows, tile);
  else choose<Kind<Bytes, 0, false, Unpacked>>(rows, tile);
}

void multiply_packed(int64_t rows, const IntegerTile &tile) {
  switch (tile.type) {
    case FLX_Q4_1: return choose<Kind<Nibbles<0>, 0, true, Header>>(rows, tile);
    case FLX_Q5_0: return choose<Kind<Nibbles<1>, 0, false, Header>>(rows, tile);
    case FLX_Q5_1: return choose<Kind<Nibbles<1>, 0, true, Header>>(rows, tile);
    case FLX_Q8_0: return choose<Kind<Bytes, 0, false, Header>>(rows, tile);
    case FLX_IQ4_NL: return choose<Kind<Looked, 0, false, Header>>(rows, tile);
    case FLX_Q4_K: return choose<Kind<Nibbles<0>, 32, true, Unpacked>>(rows, tile);
    case FLX_Q5_K: return choose<Kind<Nibbles<1>, 32, true, Unpacked>>(rows, tile);
    case FLX_Q6_K: return choose<Kind<Nibbles<2>, 16, false, Unpacked>>(rows, tile);
    default: return choose<Kind<Nibbles<0>, 0, false, Header>>(rows, tile); /* Q4_0 */
  }
}
#endif
