#include "activations.h"

#include <algorithm>
#include <cmath>

int64_t integer_rows_bytes(int64_t m, int64_t k) { return m * k + 4 * 4 * (m * k / GROUP) + 64; }

IntegerRows integer_rows(void *scratch, int64_t m, int64_t k) {
  int8_t *quants = static_cast<int8_t *>(scratch);
  float *scales = reinterpret_cast<float *>(quants + (m * k + 63) / 64 * 64);
  const int64_t groups = m * k / GROUP;
  return {quants, scales, reinterpret_cast<int32_t *>(scales + 2 * groups), scales + groups};
}

/* Rounds a group to -127 ... 127. Returns the scale, which is no number if a value is not finite. `sums` are those of both halves. */
static float round_group(const float *x, int8_t *quants, int32_t *sums) {
#if defined(FLX_ISA_AVX512)
  const F a = f_load(x), b = f_load(x + 16);
  const float most = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
  const __mmask16 wrong = _mm512_fpclass_ps_mask(a, 0x99) | _mm512_fpclass_ps_mask(b, 0x99);
  if (wrong) {
    std::memset(quants, 0, GROUP);
    sums[0] = sums[1] = 0;
    return NAN;
  }
  const F inverse = f_set(most > 0 ? 127 / most : 0);
  const I p = _mm512_cvtps_epi32(f_mul(a, inverse)), q = _mm512_cvtps_epi32(f_mul(b, inverse));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(quants), _mm512_cvtsepi32_epi8(p));
  _mm_storeu_si128(reinterpret_cast<__m128i *>(quants + 16), _mm512_cvtsepi32_epi8(q));
  sums[0] = _mm512_reduce_add_epi32(p);
  sums[1] = _mm512_reduce_add_epi32(q);
  return most / 127;
#else
  float most = 0;
  bool finite = true;
  for (int i = 0; i < GROUP; i++) {
    most = std::max(most, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  const float inverse = most > 0 ? 127 / most : 0;
  sums[0] = sums[1] = 0;
  for (int i = 0; i < GROUP; i++) {
    const int32_t q = finite ? static_cast<int32_t>(std::nearbyintf(x[i] * inverse)) : 0;
    quants[i] = static_cast<int8_t>(std::min(127, std::max(-127, q)));
    sums[i / (GROUP / 2)] += quants[i];
  }
  return finite ? most / 127 : NAN;
#endif
}

void round_rows(const float *x, int64_t m, int64_t k, int64_t block, int32_t zero, int span, const IntegerRows &out) {
  const int64_t first = block * INTEGER_ROWS;
  const int64_t rows = std::min<int64_t>(INTEGER_ROWS, m - first);
  const int64_t groups = k / GROUP;
  int8_t *quants = out.quants + first * k;
  for (int64_t g = 0; g < groups; g++)
    for (int64_t r = 0; r < rows; r++) {
      int8_t q[GROUP];
      int32_t sums[2];
      const float scale = round_group(x + (first + r) * k + g * GROUP, q, sums);
      for (int step = 0; step < GROUP / 4; step++) std::memcpy(quants + ((g * (GROUP / 4) + step) * rows + r) * 4, q + step * 4, 4);
      const int64_t at = first * groups + g * rows + r;
      out.scales[at] = scale;
      out.sums[at] = scale * static_cast<float>(sums[0] + sums[1]);
      int32_t *offsets = out.offsets + 2 * (first * groups + g * rows) + r;
      offsets[0] = -zero * (span == GROUP ? sums[0] + sums[1] : sums[0]);
      offsets[rows] = span == GROUP ? 0 : -zero * sums[1];
    }
}

int64_t bfloat_rows_bytes(int64_t m, int64_t k) { return m * ((k + 1) / 2) * 4; }

void round_bfloats(const float *x, int64_t m, int64_t k, int64_t block, uint16_t *out) {
  const int64_t first = block * FLOAT_ROWS, pairs = (k + 1) / 2;
  const int64_t rows = std::min<int64_t>(FLOAT_ROWS, m - first);
  out += first * pairs * 2;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t pair = 0; pair < pairs; pair++) {
      const float *from = x + (first + r) * k + pair * 2;
      const uint16_t both[2] = {float_to_bfloat(from[0]), pair * 2 + 1 < k ? float_to_bfloat(from[1]) : static_cast<uint16_t>(0)};
      std::memcpy(out + (pair * rows + r) * 2, both, 4);
    }
}

void gather_rows(const float *x, int64_t m, int64_t k, int64_t block, float *out) {
  const int64_t first = block * FLOAT_ROWS;
  const int64_t rows = std::min<int64_t>(FLOAT_ROWS, m - first);
  out += first * k;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < k; i++) out[i * rows + r] = x[(first + r) * k + i];
}
