#include "kernels.h"
#include "simd.h"

#if defined(FLX_ISA_AVX512)
/* 6 x 2 vectors of integer sums and as many of float sums: 24 registers, 2 for weights and 1 for an activation. */
template <int ROWS, bool MINIMA> static void multiply(const IntegerTile &t) {
  constexpr int V = 2;
  F sums[ROWS][V];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < V; v++) sums[r][v] = t.first ? f_set(0) : f_load(t.c + r * t.ldc + v * LANES);
  const int8_t *a = t.quants;
  const uint8_t *w = t.weights;
  for (int64_t g = 0; g < t.groups; g++) {
    I products[ROWS][V];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < V; v++) products[r][v] = i_set(t.offsets[g * ROWS + r]);
    for (int step = 0; step < GROUP / 4; step++, a += ROWS * 4, w += FLX_PANEL * 4) {
      I weights[V];
      for (int v = 0; v < V; v++) weights[v] = _mm512_loadu_si512(w + v * 64);
      for (int r = 0; r < ROWS; r++) {
        int32_t four;
        std::memcpy(&four, a + r * 4, 4);
        for (int v = 0; v < V; v++) products[r][v] = _mm512_dpbusd_epi32(products[r][v], weights[v], i_set(four));
      }
    }
    for (int v = 0; v < V; v++) {
      const F scale = f_load(t.weight_scales + g * FLX_PANEL + v * LANES);
      for (int r = 0; r < ROWS; r++)
        sums[r][v] = f_fma(f_mul(f_from_i(products[r][v]), scale), f_set(t.scales[g * ROWS + r]), sums[r][v]);
      if (!MINIMA) continue;
      const F minimum = f_sub(f_set(0), f_load(t.minima + g * FLX_PANEL + v * LANES));
      for (int r = 0; r < ROWS; r++) sums[r][v] = f_fma(minimum, f_set(t.sums[g * ROWS + r]), sums[r][v]);
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < V; v++) f_store(t.c + r * t.ldc + v * LANES, sums[r][v]);
}

#elif defined(__AVX2__)
static inline I pairs_to_fours(I pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }

/*
 * Products of pairs are 16 bits wide. Unsigned weights are below 32, so that 8 sums of pairs fit (8 * 2 * 15 * 127 < 2^15 for 4 bits). Signed ones give
 * their sign to the activation: 2 * 128 * 127 fits, two of them do not.
 */
template <int ROWS, bool SIGNED> static void group_products(const int8_t *a, const uint8_t *w, I (*products)[2]) {
  I short_sums[ROWS][2];
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < 2; v++) short_sums[r][v] = _mm256_setzero_si256();
  for (int step = 0; step < GROUP / 4; step++, a += ROWS * 4, w += FLX_PANEL * 4)
    for (int v = 0; v < 2; v++) {
      const I weights = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(w + v * 32));
      const I sizes = SIGNED ? _mm256_abs_epi8(weights) : weights;
      for (int r = 0; r < ROWS; r++) {
        int32_t four;
        std::memcpy(&four, a + r * 4, 4);
        const I x = SIGNED ? _mm256_sign_epi8(i_set(four), weights) : i_set(four);
        const I pairs = _mm256_maddubs_epi16(sizes, x);
        if (SIGNED) products[r][v] = _mm256_add_epi32(products[r][v], pairs_to_fours(pairs));
        else short_sums[r][v] = _mm256_add_epi16(short_sums[r][v], pairs);
      }
    }
  if (SIGNED) return;
  for (int r = 0; r < ROWS; r++)
    for (int v = 0; v < 2; v++) products[r][v] = _mm256_add_epi32(products[r][v], pairs_to_fours(short_sums[r][v]));
}
#else
template <int ROWS, bool SIGNED> static void group_products(const int8_t *a, const uint8_t *w, I (*products)[2]) {
  for (int step = 0; step < GROUP / 4; step++, a += ROWS * 4, w += FLX_PANEL * 4)
    for (int r = 0; r < ROWS; r++)
      for (int c = 0; c < 2 * LANES; c++)
        for (int i = 0; i < 4; i++)
          products[r][c / LANES][c % LANES] += (SIGNED ? static_cast<int8_t>(w[c * 4 + i]) : w[c * 4 + i]) * a[r * 4 + i];
}
#endif

#if !defined(FLX_ISA_AVX512)
/* Float sums stay in C, which is in the first cache: there are no registers for both kinds. */
template <int ROWS, bool SIGNED> static void multiply_columns(const IntegerTile &t, int column) {
  for (int64_t g = 0; g < t.groups; g++) {
    I products[ROWS][2];
    for (int r = 0; r < ROWS; r++)
      for (int v = 0; v < 2; v++) products[r][v] = i_set(t.offsets[g * ROWS + r]);
    group_products<ROWS, SIGNED>(t.quants + g * GROUP * ROWS, t.weights + g * GROUP * FLX_PANEL + column * 4, products);
    for (int v = 0; v < 2; v++) {
      const int c = column + v * LANES;
      const F scale = f_load(t.weight_scales + g * FLX_PANEL + c);
      const F minimum = t.minima ? f_sub(f_set(0), f_load(t.minima + g * FLX_PANEL + c)) : f_set(0);
      for (int r = 0; r < ROWS; r++) {
        float *sum = t.c + r * t.ldc + c;
        F value = t.first && g == 0 ? f_set(0) : f_load(sum);
        value = f_fma(f_mul(f_from_i(products[r][v]), scale), f_set(t.scales[g * ROWS + r]), value);
        if (t.minima) value = f_fma(minimum, f_set(t.sums[g * ROWS + r]), value);
        f_store(sum, value);
      }
    }
  }
}
#endif

template <int ROWS> static void choose(int64_t rows, const IntegerTile &t) {
  if (rows != ROWS) {
    if constexpr (ROWS > 1) choose<ROWS - 1>(rows, t);
    return;
  }
#if defined(FLX_ISA_AVX512)
  if (t.minima) multiply<ROWS, true>(t);
  else multiply<ROWS, false>(t);
#else
  for (int column = 0; column < FLX_PANEL; column += 2 * LANES)
    if (t.is_signed) multiply_columns<ROWS, true>(t, column);
    else multiply_columns<ROWS, false>(t, column);
#endif
}

void multiply_integers(int64_t rows, const IntegerTile &tile) { choose<INTEGER_ROWS>(rows, tile); }
