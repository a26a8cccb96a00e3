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
  static F scale(const IntegerTile &t, const uint8_t *, int64_t g, int v) { return f_load(t.panel.scales + g * FLX_PANEL + v * LANES); }
  static F minimum(const IntegerTile &t, const uint8_t *, int64_t g, int v) { return f_load(t.panel.minima + g * FLX_PANEL + v * LANES); }
};
struct Header {
  static constexpr int BYTES = 2 * FLX_PANEL, BYTES_WITH_MINIMA = 4 * FLX_PANEL;
  static F scale(const IntegerTile &, const uint8_t *header, int64_t, int v) { return f_from_half(reinterpret_cast<const uint16_t *>(header) + v * LANES); }
  static F minimum(const IntegerTile &, const uint8_t *header, int64_t, int v) {
    return f_from_half(reinterpret_cast<const uint16_t *>(header) + FLX_PANEL + v * LANES);
  }
};

/* With fewer rows of groups Zen 4 keeps more requests under way than asking does. */
static constexpr int ROWS_THAT_ASK = PANELS_BY_TURNS > 1 ? 1 : 4;
static constexpr int V = FLX_PANEL / LANES;

/* All rows at once: sums in registers are arrays that no index is left in. */
#define EACH_ROW(r) _Pragma("GCC unroll 12") for (int r = 0; r < ROWS; r++)

/* What is unpacked for the first block of rows stays for the others: stores hide behind products, a pass of its own does not. */
template <class FORM> struct Kept : FORM {};
template <class Form> static constexpr bool KEEPS = false;
template <class Form> static constexpr bool KEEPS<Kept<Form>> = true;

/* Exact products of `VALUES` values, `span` of a group: 12 sums, 2 vectors of weights, 1 of activations. Kept codes are left at `codes`. */
template <int ROWS, int VALUES, class Form>
static inline void multiply_span(const int8_t *a, const uint8_t *w, int span, const int32_t *offsets, uint8_t *codes, I (&products)[ROWS][V]) {
  EACH_ROW(r)
    for (int v = 0; v < V; v++) products[r][v] = i_set(offsets[r]);
#pragma GCC unroll 8
  for (int i = 0; i < VALUES / 4; i++) {
    const int step = span * (VALUES / 4) + i;
    I weights[V];
    Form::load(w, step, weights);
    if (KEEPS<Form>)
      for (int v = 0; v < V; v++) _mm512_storeu_si512(codes + (step * V + v) * 64, weights[v]);
    EACH_ROW(r) {
      const I four = load_four(a + (step * ROWS + r) * 4);
      for (int v = 0; v < V; v++) products[r][v] = _mm512_dpbusd_epi32(products[r][v], weights[v], four);
    }
  }
}

/* C += products of group `g`, whose weights are at `block`: of both sides, they have a scale for it. */
template <int ROWS, bool MINIMA, class Form, class Scales>
static inline FLX_INLINE void multiply_group(const IntegerTile &t, const int8_t *a, const uint8_t *block, int64_t g, float *c) {
  I products[ROWS][V];
  const uint8_t *w = block + (MINIMA ? Scales::BYTES_WITH_MINIMA : Scales::BYTES);
  multiply_span<ROWS, GROUP, Form>(a, w, 0, t.offsets + g * 2 * ROWS, t.panel.quants + g * GROUP * FLX_PANEL, products);
  /* Of its own: what is stored may be `t` for all that GCC knows. */
  const float *scales = t.scales + g * ROWS, *sums = t.sums + g * ROWS;
  for (int v = 0; v < V; v++, c += LANES) {
    const F scale = Scales::scale(t, block, g, v);
    const F start = f_start_scaled(scale);
    const F minimum = MINIMA ? Scales::minimum(t, block, g, v) : f_set(0);
    EACH_ROW(r) {
      F sum = f_fma(f_sum_scaled(products[r][v], scale, start), f_set(scales[r]), f_load(c + r * FLX_PANEL));
      if (MINIMA) sum = f_fma(minimum, f_set(sums[r]), sum);
      f_store(c + r * FLX_PANEL, sum);
    }
  }
}

/* Weights and activations with a scale for each group. */
template <int ROWS, bool MINIMA, class Form, class Scales> static void multiply_groups(const IntegerTile &t) {
  constexpr bool PACKED = std::is_same_v<Scales, Header>;
  const int64_t panels = PACKED ? t.panels : 1;
  const int8_t *a = t.quants;
  const uint8_t *block = t.weights;
  for (int64_t g = 0; g < t.groups; g++, a += GROUP * ROWS, block += t.weight_bytes) {
    if (!PACKED) ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
    for (int64_t panel = 0; panel < panels; panel++) {
      const uint8_t *w = block + panel * t.panel_bytes;
      if (PACKED && ROWS >= ROWS_THAT_ASK) ask_for<PACKED_AHEAD_CACHE>(w + PACKED_AHEAD_BYTES, t.weight_bytes);
      multiply_group<ROWS, MINIMA, Form, Scales>(t, a, w, g, t.c + panel * ROWS * FLX_PANEL);
    }
  }
}

/* Sums of quants times factors of the minima of a K block. */
template <int ROWS> static inline void sum_minima(const IntegerTile &t, int64_t block, I (&least)[ROWS][V]) {
  EACH_ROW(r)
    for (int v = 0; v < V; v++) least[r][v] = i_set(0);
  for (int64_t pair = block * 4; pair < block * 4 + 4; pair++)
    for (int v = 0; v < V; v++) {
      const I factors = _mm512_loadu_si512(t.panel.minimum_factors + (pair * FLX_PANEL + v * LANES) * 2);
      EACH_ROW(r) least[r][v] = _mm512_dpwssd_epi32(least[r][v], factors, load_four(t.sum_pairs + (pair * ROWS + r) * 2));
    }
}

/*
 * K blocks: both sides have one scale for 256 values, and the weights whole factors within. Sums of a span times its factor are whole numbers below 2^24
 * (16 * 127 * 32 * 128 in q6_k), and are summed as floats, which take one operation less than whole numbers: exact below 2^24, as nearly always, beyond it
 * rounded in the same order for any number of rows.
 */
template <int ROWS, int VALUES, bool MINIMA, class Form> static void multiply_blocks(const IntegerTile &t) {
  constexpr int SPANS = GROUP / VALUES, GROUPS = K_BLOCK / GROUP;
  const int8_t *a = t.quants;
  const uint8_t *w = t.weights;
  const IntegerFormat &f = *integer_format(t.type);
  const int64_t header = KEEPS<Form> ? header_bytes(f) : 0;
  for (int64_t block = 0; block < t.groups / GROUPS; block++, w += header) {
    F totals[ROWS][V];
    EACH_ROW(r)
      for (int v = 0; v < V; v++) totals[r][v] = f_set(0);
    for (int64_t g = block * GROUPS; g < (block + 1) * GROUPS; g++, a += GROUP * ROWS, w += t.weight_bytes) {
      if (std::is_same_v<Form, Bytes> || KEEPS<Form>) ask_for(t.ahead + g * t.ahead_bytes, t.ahead_bytes);
      else
        for (int64_t panel = 0; panel < t.panels; panel++) ask_for<PACKED_AHEAD_CACHE>(t.ahead + panel * t.panel_bytes + g * t.ahead_bytes, t.ahead_bytes);
      for (int span = 0; span < SPANS; span++) {
        I products[ROWS][V];
        multiply_span<ROWS, VALUES, Form>(a, w, span, t.offsets + (g * 2 + span) * ROWS, t.panel.quants + g * GROUP * FLX_PANEL, products);
        for (int v = 0; v < V; v++) {
          const F factors = f_from_i(i_from_bytes(t.panel.scale_factors + (g * SPANS + span) * FLX_PANEL + v * LANES));
          EACH_ROW(r) totals[r][v] = f_fma(f_from_i(products[r][v]), factors, totals[r][v]);
        }
      }
    }
    F scaled[ROWS][V];
    EACH_ROW(r)
      for (int v = 0; v < V; v++) scaled[r][v] = f_mul(totals[r][v], f_load(t.panel.scales + block * FLX_PANEL + v * LANES));
    if (MINIMA) {
      I least[ROWS][V];
      sum_minima(t, block, least);
      for (int v = 0; v < V; v++) {
        const F minimum = f_sub(f_set(0), f_load(t.panel.minima + block * FLX_PANEL + v * LANES));
        EACH_ROW(r) scaled[r][v] = f_fma(f_from_i(least[r][v]), minimum, scaled[r][v]);
      }
    }
    const float *scales = t.scales + block * ROWS;
    EACH_ROW(r)
      for (int v = 0; v < V; v++) {
        float *c = t.c + r * FLX_PANEL + v * LANES;
        f_store(c, f_fma(scaled[r][v], f_set(scales[r]), f_load(c)));
      }
  }
}

/* How weights are read, and what scales they have: SPAN values share a whole factor within a K block, 0: there is none. */
template <class FORM, int SPAN, bool MINIMA, class SCALES> struct Kind {
  template <int ROWS> static void multiply(const IntegerTile &t) {
    if constexpr (SPAN > 0) multiply_blocks<ROWS, SPAN, MINIMA, FORM>(t);
    else multiply_groups<ROWS, MINIMA, FORM, SCALES>(t);
  }
};

template <class Kind, int ROWS> static void choose(int64_t rows, const IntegerTile &t) {
  if (rows == ROWS) return Kind::template multiply<ROWS>(t);
  if constexpr (ROWS > 1) choose<Kind, ROWS - 1>(rows, t);
}

/* Codes that lie in panel order: KIND<form, span, minima>. */
template <template <class, int, bool> class KIND, int ROWS> static void choose_form(int64_t rows, const IntegerTile &t) {
  switch (t.type) {
    case FLX_Q4_0: return choose<KIND<Nibbles<0>, 0, false>, ROWS>(rows, t);
    case FLX_Q4_1: return choose<KIND<Nibbles<0>, 0, true>, ROWS>(rows, t);
    case FLX_Q5_0: return choose<KIND<Nibbles<1>, 0, false>, ROWS>(rows, t);
    case FLX_Q5_1: return choose<KIND<Nibbles<1>, 0, true>, ROWS>(rows, t);
    case FLX_IQ4_NL: return choose<KIND<Looked, 0, false>, ROWS>(rows, t);
    case FLX_Q4_K: return choose<KIND<Nibbles<0>, 32, true>, ROWS>(rows, t);
    case FLX_Q5_K: return choose<KIND<Nibbles<1>, 32, true>, ROWS>(rows, t);
    case FLX_Q6_K: return choose<KIND<Nibbles<2>, 16, false>, ROWS>(rows, t);
  }
}
template <class FORM, int SPAN, bool MINIMA> using PackedKind = Kind<FORM, SPAN, MINIMA, Header>;
template <class FORM, int SPAN, bool MINIMA> using KeptKind = Kind<Kept<FORM>, SPAN, MINIMA, Unpacked>;

void multiply_integers(int64_t rows, const IntegerTile &tile) {
  if (tile.tiles) return multiply_by_tiles(rows, tile);
  const IntegerFormat &f = *integer_format(tile.type);
  if (f.scale_values == 16) choose<Kind<Bytes, 16, false, Unpacked>, INTEGER_ROWS>(rows, tile);
  else if (f.k_scales) choose<Kind<Bytes, 32, true, Unpacked>, INTEGER_ROWS>(rows, tile);
  else if (f.minimum) choose<Kind<Bytes, 0, true, Unpacked>, INTEGER_ROWS>(rows, tile);
  else if (tile.type == FLX_Q8_0) choose<Kind<PanelBytes, 0, false, Unpacked>, INTEGER_ROWS>(rows, tile);
  else choose<Kind<Bytes, 0, false, Unpacked>, INTEGER_ROWS>(rows, tile);
}

void multiply_and_unpack(int64_t rows, const IntegerTile &tile) {
  const IntegerFormat &f = *integer_format(tile.type);
  unpack_headers(tile.type, tile.packed, tile.groups * GROUP, tile.panel);
  if (tile.tiles && !in_kernel_form(tile.type)) unpack_signed(tile.type, tile.packed, tile.groups * GROUP, tile.panel.quants);
  if (tile.tiles || in_kernel_form(tile.type)) return multiply_integers(rows, tile);
  IntegerTile codes = tile;
  codes.weights = tile.packed + header_bytes(f);
  codes.weight_bytes = group_stride(f);
  choose_form<KeptKind, INTEGER_ROWS>(rows, codes);
}

void multiply_packed(int64_t rows, const IntegerTile &tile) {
  if (tile.type == FLX_Q8_0) choose<PackedKind<PanelBytes, 0, false>, TOGETHER>(rows, tile);
  else choose_form<PackedKind, TOGETHER>(rows, tile);
}
#endif
