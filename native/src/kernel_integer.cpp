#include "kernels.h"
#include "panel.h"

#if !defined(FLX_ISA_AVX512)
const int64_t PACKED_ROWS = 0;
void multiply_packed(int64_t, const IntegerTile &) {}

#if defined(__AVX2__)
static inline I pairs_to_fours(I pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

/*
 * Products of pairs are 16 bits wide: STEPS of them fit, 2 * 127 * (2^bits - 1) each. Signed weights give their sign to the activation: 2 * 127 * 128
 * fits, two of them do not.
 */
template <int ROWS, int SPAN, bool SIGNED, int STEPS> static void span_products(const int8_t *a, const uint8_t *w, I (*products)[2]) {
  for (int first = 0; first < SPAN / 4; first += STEPS) {
    I pairs[ROWS][2];
    for (int step = 0; step < STEPS; step++, a += ROWS * 4, w += FLX_PANEL * 4)
      for (int v = 0; v < 2; v++) {
        const I weights = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(w + v * 32));
        const I sizes = SIGNED ? _mm256_abs_epi8(weights) : weights;
        for (int r = 0; r < ROWS; r++) {
          int32_t four;
          std::memcpy(&four, a + r * 4, 4);
          const I x = SIGNED ? _mm256_sign_epi8(i_set(four), weights) : i_set(four);
          const I both = _mm256_maddubs_epi16(sizes, x);
          pairs[r][v] = step == 0 ? both : _mm256_add_epi16(pairs[r][v], both);
        }
      }
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < 2; v++) products[r][v] = _mm256_add_epi32(products[r][v], pairs_to_fours(pairs[r][v]));
  }
}
#else
template <int ROWS, int SPAN, bool SIGNED, int STEPS> static void span_products(const int8_t *a, const uint8_t *w, I (*products)[2]) {
  for (int step = 0; step < SPAN / 4; step++, a += ROWS * 4, w += FLX_PANEL * 4)
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < 2 * LANES; c++)
        for (int i = 0; i < 4; i++)
          products[r][c / LANES][c % LANES] += (SIGNED ? static_cast<int8_t>(w[c * 4 + i]) : w[c * 4 + i]) * a[r * 4 + i];
}
#endif

/* Float sums stay in C, which is in the first cache: there are no registers for both kinds. */
template <int ROWS, int SPAN, bool SIGNED, int STEPS> static void multiply_columns(const IntegerTile &t, int column) {
  constexpr int SPANS = GROUP / SPAN;
  for (int64_t span = 0; span < t.groups * SPANS; span++) {
    const int64_t g = span / SPANS;
    const int32_t *offsets = t.offsets + (g * 2 + span % SPANS) * ROWS;
    I products[ROWS][2];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < 2; v++) products[r][v] = i_set(offsets[r]);
    span_products<ROWS, SPAN, SIGNED, STEPS>(t.quants + span * SPAN * ROWS, t.weights + span * SPAN * FLX_PANEL + column * 4, products);
    for (int v = 0; v < 2; v++) {
      const int c = column + v * LANES;
      const F scale = f_load(t.weight_scales + span * FLX_PANEL + c);
      const F minimum = t.minima ? f_sub(f_set(0), f_load(t.minima + span * FLX_PANEL + c)) : f_set(0);
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

template <int ROWS> static void choose_form(const IntegerTile &t, int column) {
  if (signed_quants(t.type)) return multiply_columns<ROWS, 32, true, 1>(t, column);
  switch (integer_format(t.type)->bits) {
    case 4: return multiply_columns<ROWS, 32, false, 8>(t, column);
    case 5: return multiply_columns<ROWS, 32, false, 4>(t, column);
    default: return multiply_columns<ROWS, 16, false, 2>(t, column);
  }
}

template <int ROWS> static void choose(int64_t rows, const IntegerTile &t) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) choose<ROWS - 1>(rows, t);
    return;
  }
  for (int column = 0; column < FLX_PANEL; column += 2 * LANES) choose_form<ROWS>(t, column);
}

void multiply_integers(int64_t rows, const IntegerTile &tile) { choose<INTEGER_ROWS>(rows, tile); }
#endif
