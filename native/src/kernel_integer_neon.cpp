/*
 * Integer products by sdot, or smmla where there is +i8mm. Both take signed bytes: codes of up to 6 bits are the same with a sign and without, and those
 * of 8 bits have one in this library (`signed_quants`).
 */
#include <utility>

#include "kernels.h"
#include "panel.h"

#if defined(FLX_ISA_NEON)
const int64_t PACKED_ROWS = 0;
void multiply_packed(int64_t, const IntegerTile &) {}

/* Vectors of columns at a time: with 8 rows 16 of the 32 registers are sums. */
static constexpr int VECTORS = 2;
static constexpr int STEP_BYTES = FLX_PANEL * 4;

/* 4 k of ROWS rows, four rows in a vector; zeros behind them. */
template <int ROWS> static inline void load_rows(const int8_t *a, int8x16_t *x) {
  for (int first = 0; first < ROWS; first += 4) {
    if (first + 4 <= ROWS) {
      x[first / 4] = vld1q_s8(a + first * 4);
      continue;
    }
    int8_t rest[16] = {};
    std::memcpy(rest, a + first * 4, (ROWS - first) * 4);
    x[first / 4] = vld1q_s8(rest);
  }
}

static inline int8x16_t load_columns(const uint8_t *w) { return vreinterpretq_s8_u8(vld1q_u8(w)); }

#if defined(__ARM_FEATURE_MATMUL_INT8)
/* Two times 4 k of four rows (or columns) become two vectors with 8 k of two. */
static inline void pair(int8x16_t first, int8x16_t second, int8x16_t *pairs) {
  const int32x4_t a = vreinterpretq_s32_s8(first), b = vreinterpretq_s32_s8(second);
  pairs[0] = vreinterpretq_s8_s32(vzip1q_s32(a, b));
  pairs[1] = vreinterpretq_s8_s32(vzip2q_s32(a, b));
}

/* products[row][column] = offsets[row] + the sum over SPAN values; smmla gives two rows times two columns. */
template <int ROWS, int SPAN> static inline void span_products(const int8_t *a, const uint8_t *w, const int32_t *offsets, I (*products)[VECTORS]) {
  constexpr int PAIRS = (ROWS + 1) / 2, QUADS = (ROWS + 3) / 4;
  I sums[PAIRS][2 * VECTORS];
  for (int p = 0; p < PAIRS; p++)
    for (int c = 0; c < 2 * VECTORS; c++) sums[p][c] = vcombine_s32(vdup_n_s32(offsets[2 * p]), vdup_n_s32(2 * p + 1 < ROWS ? offsets[2 * p + 1] : 0));
  for (int step = 0; step < SPAN / 4; step += 2, a += 2 * ROWS * 4, w += 2 * STEP_BYTES) {
    int8x16_t first[QUADS], second[QUADS], rows[2 * QUADS], columns[2 * VECTORS];
    load_rows<ROWS>(a, first);
    load_rows<ROWS>(a + ROWS * 4, second);
    for (int q = 0; q < QUADS; q++) pair(first[q], second[q], rows + 2 * q);
    for (int v = 0; v < VECTORS; v++) pair(load_columns(w + v * 16), load_columns(w + STEP_BYTES + v * 16), columns + 2 * v);
    for (int p = 0; p < PAIRS; p++)
      for (int c = 0; c < 2 * VECTORS; c++) sums[p][c] = vmmlaq_s32(sums[p][c], rows[p], columns[c]);
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++) {
      const I left = sums[r / 2][2 * v], right = sums[r / 2][2 * v + 1];
      products[r][v] = r % 2 == 0 ? vcombine_s32(vget_low_s32(left), vget_low_s32(right)) : vcombine_s32(vget_high_s32(left), vget_high_s32(right));
    }
}
#else
template <int... R> static inline void add_products(const int8x16_t *x, const int8x16_t *w, I (*products)[VECTORS], std::integer_sequence<int, R...>) {
  for (int v = 0; v < VECTORS; v++) ((products[R][v] = vdotq_laneq_s32(products[R][v], w[v], x[R / 4], R % 4)), ...);
}

/* products[row][column] = offsets[row] + the sum over SPAN values */
template <int ROWS, int SPAN> static inline void span_products(const int8_t *a, const uint8_t *w, const int32_t *offsets, I (*products)[VECTORS]) {
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < VECTORS; v++) products[r][v] = i_set(offsets[r]);
  for (int step = 0; step < SPAN / 4; step++, a += ROWS * 4, w += STEP_BYTES) {
    int8x16_t x[(ROWS + 3) / 4], columns[VECTORS];
    load_rows<ROWS>(a, x);
    for (int v = 0; v < VECTORS; v++) columns[v] = load_columns(w + v * 16);
    add_products(x, columns, products, std::make_integer_sequence<int, ROWS>{});
  }
}
#endif

/* Float sums stay in C, which is in the first cache: there are no registers for both kinds. */
template <int ROWS, int SPAN> static void multiply_columns(const IntegerTile &t, int column) {
  constexpr int SPANS = GROUP / SPAN;
  for (int64_t span = 0; span < t.groups * SPANS; span++) {
    const int64_t g = span / SPANS;
    I products[ROWS][VECTORS];
    span_products<ROWS, SPAN>(t.quants + span * SPAN * ROWS, t.weights + span * SPAN * FLX_PANEL + column * 4, t.offsets + (g * 2 + span % SPANS) * ROWS,
                              products);
    for (int v = 0; v < VECTORS; v++) {
      const int c = column + v * LANES;
      const F scale = f_load(t.weight_scales + span * FLX_PANEL + c);
      const F minimum = t.minima ? vnegq_f32(f_load(t.minima + span * FLX_PANEL + c)) : f_set(0);
      for (int r = 0; r < ROWS; r++) {
        float *sum = t.c + r * FLX_PANEL + c;
        F value = t.first && span == 0 ? f_set(0) : f_load(sum);
        value = f_fma(f_mul(f_from_i(products[r][v]), scale), f_set(t.scales[g * ROWS + r]), value);
        if (t.minima) value = f_fma(minimum, f_set(t.sums[g * ROWS + r]), value);
        f_store(sum, value);
      }
    }
  }
}

template <int ROWS> static void choose(int64_t rows, const IntegerTile &t) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) choose<ROWS - 1>(rows, t);
    return;
  }
  for (int column = 0; column < FLX_PANEL; column += VECTORS * LANES) {
    if (integer_format(t.type)->scale_values == 16) multiply_columns<ROWS, 16>(t, column);
    else multiply_columns<ROWS, 32>(t, column);
  }
}

void multiply_integers(int64_t rows, const IntegerTile &tile) { choose<INTEGER_ROWS>(rows, tile); }
#endif
