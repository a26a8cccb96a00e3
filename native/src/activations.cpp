#include "activations.h"

#include "kernels.h"

#include <algorithm>
#include <cmath>

int64_t integer_block_rows(int32_t type, int64_t m) { return m <= packed_rows(type) ? m : block_rows(m, INTEGER_ROWS); }

int64_t integer_rows_bytes(int64_t m, int64_t k) { return m * k + 4 * 4 * (m * k / GROUP) + 64; }

IntegerRows integer_rows(void *scratch, int64_t m, int64_t k) {
  int8_t *quants = static_cast<int8_t *>(scratch);
  float *scales = reinterpret_cast<float *>(quants + (m * k + 63) / 64 * 64);
  const int64_t groups = m * k / GROUP;
  return {quants, scales, reinterpret_cast<int32_t *>(scales + 2 * groups), {scales + groups}};
}

/* The largest of the absolute values, or no number if one of them is not finite. `count` is a multiple of GROUP. */
static float largest_of(const float *x, int count) {
#if defined(FLX_ISA_AVX512)
  F most = f_set(0);
  __mmask16 wrong = 0;
  for (int i = 0; i < count; i += LANES) {
    const F v = f_load(x + i);
    wrong |= _mm512_fpclass_ps_mask(v, 0x99);
    most = f_max(most, _mm512_abs_ps(v));
  }
  return wrong ? NAN : f_largest(most);
#else
  float most = 0;
  bool finite = true;
  for (int i = 0; i < count; i++) {
    most = std::max(most, std::fabs(x[i]));
    finite = finite && std::isfinite(x[i]);
  }
  return finite ? most : NAN;
#endif
}

/* Rounds x * inverse to -127 ... 127 for a group. `sums` are those of both halves. */
static void round_group(const float *x, float inverse, int8_t *quants, int32_t *sums) {
#if defined(FLX_ISA_AVX512)
  for (int half = 0; half < 2; half++) {
    const I q = _mm512_cvtps_epi32(f_mul(f_load(x + half * LANES), f_set(inverse)));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(quants + half * LANES), _mm512_cvtsepi32_epi8(q));
    sums[half] = _mm512_reduce_add_epi32(q);
  }
#else
  sums[0] = sums[1] = 0;
  for (int i = 0; i < GROUP; i++) {
    const int32_t q = static_cast<int32_t>(std::nearbyintf(x[i] * inverse));
    quants[i] = static_cast<int8_t>(std::min(127, std::max(-127, q)));
    sums[i / (GROUP / 2)] += quants[i];
  }
#endif
}

namespace {
/* One row of a block. */
struct Place {
  int64_t row;
  int64_t rows;
  int8_t *quants;
  float *scales;
  int32_t *offsets;
  float *sums;
  int16_t *sum_pairs;
};
} // namespace

/* Values that share a scale and are all smaller count as zeros: 127 divided by a denormal is no finite number. */
static constexpr float LEAST_OF_SPAN = 0x1p-118f;

/* Values from `group` on that share a scale. */
static void round_span(const float *x, int64_t group, const IntegerFormat &format, int32_t zero, const Place &to) {
  const int values = format.activations;
  const float most = largest_of(x, values);
  const bool finite = std::isfinite(most);
  const float inverse = finite && most >= LEAST_OF_SPAN ? 127 / most : 0, scale = most / 127;
  to.scales[group * GROUP / values * to.rows + to.row] = scale;
  for (int64_t g = group; g < group + values / GROUP; g++, x += GROUP) {
    int8_t q[GROUP] = {};
    int32_t sums[2] = {};
    if (finite) round_group(x, inverse, q, sums);
    for (int step = 0; step < GROUP / 4; step++) std::memcpy(to.quants + ((g * (GROUP / 4) + step) * to.rows + to.row) * 4, q + step * 4, 4);
    const int32_t sum = sums[0] + sums[1];
    if (values == GROUP) to.sums[g * to.rows + to.row] = scale * static_cast<float>(sum);
    else to.sum_pairs[(g / 2 * to.rows + to.row) * 2 + g % 2] = static_cast<int16_t>(sum);
    int32_t *offsets = to.offsets + 2 * g * to.rows + to.row;
    offsets[0] = -zero * (format.scale_values == GROUP ? sum : sums[0]);
    offsets[to.rows] = format.scale_values == GROUP ? 0 : -zero * sums[1];
  }
}

void round_rows(const float *x, int64_t m, int64_t k, int64_t block, int64_t most, const IntegerFormat &format, int32_t zero, const IntegerRows &out) {
  const int64_t first = block * most, groups = k / GROUP;
  const int64_t rows = std::min(most, m - first), spans = k / format.activations;
  const int64_t at = first * groups;
  Place to{0, rows, out.quants + first * k, out.scales + first * spans, out.offsets + 2 * at, out.sums + at, out.sum_pairs + at};
  for (int64_t span = 0; span < spans; span++)
    for (to.row = 0; to.row < rows; to.row++) round_span(x + (first + to.row) * k + span * format.activations, span * format.activations / GROUP, format, zero, to);
}

int64_t bfloat_rows_bytes(int64_t m, int64_t k) { return m * ((k + 1) / 2) * 4; }

/* Pairs at a time. */
static constexpr int64_t PAIRS = 16;

/* PAIRS pairs of a row, as words. */
static void round_pairs(const float *x, uint32_t *pairs) {
#if defined(__AVX512BF16__)
  const __m512bh both = _mm512_cvtne2ps_pbh(f_load(x + LANES), f_load(x));
  std::memcpy(pairs, &both, sizeof both);
#else
  for (int64_t i = 0; i < PAIRS; i++) pairs[i] = float_to_bfloat(x[2 * i]) | static_cast<uint32_t>(float_to_bfloat(x[2 * i + 1])) << 16;
#endif
}

void round_bfloats(const float *x, int64_t m, int64_t k, int64_t block, uint16_t *out) {
  const int64_t most = block_rows(m, FLOAT_ROWS), first = block * most, pairs = (k + 1) / 2;
  const int64_t rows = std::min(most, m - first);
  out += first * pairs * 2;
  for (int64_t pair = 0; pair < pairs; pair += PAIRS)
    for (int64_t r = 0; r < rows; r++) {
      const int64_t count = std::min(2 * PAIRS, k - pair * 2);
      const float *from = x + (first + r) * k + pair * 2;
      float rest[2 * PAIRS] = {};
      uint32_t words[PAIRS];
      if (count < 2 * PAIRS) std::memcpy(rest, from, static_cast<size_t>(count) * 4);
      round_pairs(count < 2 * PAIRS ? rest : from, words);
      for (int64_t i = 0; i < PAIRS && pair + i < pairs; i++) std::memcpy(out + ((pair + i) * rows + r) * 2, words + i, 4);
    }
}

void gather_rows(const float *x, int64_t m, int64_t k, int64_t block, float *out) {
  const int64_t most = block_rows(m, FLOAT_ROWS), first = block * most;
  const int64_t rows = std::min(most, m - first);
  out += first * k;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < k; i++) out[i * rows + r] = x[(first + r) * k + i];
}
