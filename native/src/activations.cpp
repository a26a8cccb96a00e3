#include "activations.h"

#include "kernels.h"
#include "signs.h"

#include <algorithm>
#include <cmath>

/* With fewer rows the table takes longer to fill than it saves. */
static constexpr int64_t LEAST_BY_SIGNS = 24;
/* With fewer rows tiles are no faster than vectors. */
[[maybe_unused]] static constexpr int64_t LEAST_BY_TILES = 16;
/* Rows that are rounded together where all are one block: 16 scales of a group are a line of 64 bytes, so that threads hardly share lines. */
static constexpr int64_t ROUNDED_ROWS = 16;
/* Values of a row that are rounded together otherwise. */
static constexpr int64_t ROUNDED_K = 1024;

bool by_signs(int32_t type, int64_t m) {
#if defined(__AVX2__)
  return signed_quants(type) && m >= LEAST_BY_SIGNS;
#else
  return (void)type, (void)m, false;
#endif
}

bool by_tiles(int32_t type, int64_t m) {
#if defined(FLX_ISA_TILES)
  return integer_format(type)->scale_values == GROUP && m >= LEAST_BY_TILES;
#else
  return (void)type, (void)m, false;
#endif
}

static int64_t row_group_bytes(int32_t type, int64_t m) { return by_signs(type, m) ? static_cast<int64_t>(sizeof(RowSigns)) : GROUP; }

int64_t integer_block_rows(int32_t type, int64_t m) {
  if (m <= packed_rows(type)) return m;
  if (by_tiles(type, m)) return block_rows(m, TILE_ROWS);
  return block_rows(m, by_signs(type, m) ? MOST_ROWS : INTEGER_ROWS);
}

int64_t integer_rows_bytes(int32_t type, int64_t m, int64_t k) { return (row_group_bytes(type, m) + 4 * 4) * (m * k / GROUP) + 64; }

IntegerRows integer_rows(int32_t type, void *scratch, int64_t m, int64_t k) {
  int8_t *quants = static_cast<int8_t *>(scratch);
  const int64_t groups = m * k / GROUP, bytes = row_group_bytes(type, m);
  float *scales = reinterpret_cast<float *>(quants + (groups * bytes + 63) / 64 * 64);
  return {quants, bytes, scales, reinterpret_cast<int32_t *>(scales + 2 * groups), {scales + groups}};
}

/* The largest of the absolute values, or no number if one of them is not finite. `count` is a multiple of GROUP. */
static float largest_of(const float *x, int count) {
#if defined(FLX_ISA_AVX512)
  /* Without the sign, floats are in the order of their bits, and what is not finite is behind all others. */
  I most = i_set(0);
  for (int i = 0; i < count; i += LANES) most = _mm512_max_epi32(most, _mm512_and_epi32(_mm512_loadu_si512(x + i), i_set(0x7fffffff)));
  const int32_t bits = _mm512_reduce_max_epi32(most);
  float largest;
  std::memcpy(&largest, &bits, 4);
  return std::isfinite(largest) ? largest : NAN;
#else
  F most = f_set(0), zero = f_set(0); /* times 0, all but finite numbers are none */
  for (int i = 0; i < count; i += LANES) {
    const F v = f_load(x + i);
    zero = f_fma(v, f_set(0), zero);
    most = f_max(most, f_max(v, f_sub(f_set(0), v)));
  }
  return f_largest(most) + f_sum(zero);
#endif
}

/* Rounds x * inverse to -127 ... 127 for a group. `sums` are those of both halves. */
static void round_group(const float *x, float inverse, int8_t *quants, int32_t *sums) {
#if defined(FLX_ISA_AVX512)
  for (int half = 0; half < 2; half++) {
    const __m128i q = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(f_mul(f_load(x + half * LANES), f_set(inverse))));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(quants + half * LANES), q);
    /* Sums of 8 bytes without a sign, 128 more each. */
    const __m128i eights = _mm_sad_epu8(_mm_xor_si128(q, _mm_set1_epi8(-128)), _mm_setzero_si128());
    sums[half] = _mm_cvtsi128_si32(_mm_add_epi32(eights, _mm_unpackhi_epi64(eights, eights))) - 128 * LANES;
  }
#elif defined(__AVX2__)
  for (int half = 0; half < 2; half++) {
    const float *from = x + half * 2 * LANES;
    const I first = _mm256_cvtps_epi32(f_mul(f_load(from), f_set(inverse))), second = _mm256_cvtps_epi32(f_mul(f_load(from + LANES), f_set(inverse)));
    const I both = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xd8);
    const __m128i low = _mm256_castsi256_si128(both), high = _mm256_extracti128_si256(both, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(quants + half * 2 * LANES), _mm_packs_epi16(low, high));
    const __m128i pairs = _mm_madd_epi16(_mm_add_epi16(low, high), _mm_set1_epi16(1));
    const __m128i halves = _mm_add_epi32(pairs, _mm_shuffle_epi32(pairs, 0x4e));
    sums[half] = _mm_cvtsi128_si32(_mm_add_epi32(halves, _mm_shuffle_epi32(halves, 0xb1)));
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
  bool signs;
  bool tiles;
  IntegerRows block;
};
} // namespace

/* The quants of group `g`. */
static void place_quants(const int8_t *q, int64_t g, const Place &to) {
#if defined(__AVX2__) && !defined(FLX_ISA_AVX512)
  if (to.signs) return split_signs(q, reinterpret_cast<RowSigns *>(to.block.quants)[g * to.rows + to.row]);
#endif
  if (to.tiles) {
    std::memcpy(to.block.quants + (g * to.rows + to.row) * GROUP, q, GROUP);
    return;
  }
  int8_t *at = to.block.quants + g * GROUP * to.rows + to.row * 4;
  for (int i = 0; i < GROUP; i += 4, at += to.rows * 4) std::memcpy(at, q + i, 4);
}

/* What zero points and minima of weights are multiplied with. */
static void place_sums(const int32_t *sums, float scale, int64_t g, const IntegerFormat &format, int32_t zero, const Place &to) {
  const IntegerRows &block = to.block;
  const int32_t sum = sums[0] + sums[1];
  if (format.activations == GROUP) block.sums[g * to.rows + to.row] = scale * static_cast<float>(sum);
  else block.sum_pairs[(g / 2 * to.rows + to.row) * 2 + g % 2] = static_cast<int16_t>(sum);
  int32_t *offsets = block.offsets + 2 * g * to.rows + to.row;
  offsets[0] = (format.values == GROUP ? SUM_START : 0) - zero * (format.scale_values == GROUP ? sum : sums[0]);
  offsets[to.rows] = format.scale_values == GROUP ? 0 : -zero * sums[1];
}

/* Values that share a scale and are all smaller count as zeros: 127 divided by a denormal is no finite number. */
static constexpr float LEAST_OF_SPAN = 0x1p-118f;

/* Values from `group` on that share a scale. */
static void round_span(const float *x, int64_t group, const IntegerFormat &format, int32_t zero, const Place &to) {
  const int values = format.activations;
  const float most = largest_of(x, values);
  const bool finite = std::isfinite(most);
  const float inverse = finite && most >= LEAST_OF_SPAN ? 127 / most : 0, scale = most / 127;
  to.block.scales[group * GROUP / values * to.rows + to.row] = scale;
  for (int64_t g = group; g < group + values / GROUP; g++, x += GROUP) {
    int8_t q[GROUP] = {};
    int32_t sums[2] = {};
    if (finite) round_group(x, inverse, q, sums);
    place_quants(q, g, to);
    if (!to.signs) place_sums(sums, scale, g, format, zero, to);
  }
}

/* Parts of each block that are rounded together: of some rows or, so that few rows are shared by threads as well, of some k. */
static int64_t parts_of_block(int32_t type, int64_t m, int64_t k) {
  return by_signs(type, m) ? (integer_block_rows(type, m) + ROUNDED_ROWS - 1) / ROUNDED_ROWS : (k + ROUNDED_K - 1) / ROUNDED_K;
}

int64_t rounding_parts(int32_t type, int64_t m, int64_t k) {
  const int64_t block = integer_block_rows(type, m);
  return (m + block - 1) / block * parts_of_block(type, m, k);
}

void round_rows(const float *x, int64_t m, int64_t k, int64_t part, int32_t type, const IntegerRows &out) {
  const IntegerFormat &format = *integer_format(type);
  const int32_t zero = zero_point(type);
  const int64_t block = integer_block_rows(type, m), parts = parts_of_block(type, m, k);
  const int64_t first = part / parts * block, rows = std::min(block, m - first);
  const int64_t spans = k / format.activations, at = first * (k / GROUP);
  Place to{0, rows, by_signs(type, m), by_tiles(type, m), {out.quants + at * out.group_bytes, out.group_bytes, out.scales + first * spans, out.offsets + 2 * at, {out.sums + at}}};
  if (format.activations != GROUP) to.block.sum_pairs = out.sum_pairs + at;
  const int64_t from = part % parts * (to.signs ? ROUNDED_ROWS : 0), end = to.signs ? std::min(rows, from + ROUNDED_ROWS) : rows;
  const int64_t share = to.signs ? spans : ROUNDED_K / format.activations, first_span = to.signs ? 0 : part % parts * share;
  for (int64_t span = first_span; span < std::min(spans, first_span + share); span++)
    for (to.row = from; to.row < end; to.row++)
      round_span(x + (first + to.row) * k + span * format.activations, span * format.activations / GROUP, format, zero, to);
}

int64_t bfloat_rows_bytes(int64_t m, int64_t k) { return m * bfloat_row(k) * 2; }

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

/* The words of `row` that begin with pair `pair`, to their places in a block. */
static void place_pairs(const uint32_t *words, int64_t pair, int64_t row, int64_t rows, int64_t count, uint16_t *out) {
  constexpr int64_t TOGETHER = BFLOAT_SPAN / 2;
  for (int64_t i = 0; i < count; i += TOGETHER) std::memcpy(out + ((pair + i) * rows + row * TOGETHER) * 2, words + i, TOGETHER * 4);
}

void round_bfloats(const float *x, int64_t m, int64_t k, int64_t block, uint16_t *out) {
  const int64_t most = block_rows(m, BFLOAT_ROWS), first = block * most, pairs = bfloat_row(k) / 2;
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
      place_pairs(words, pair, r, rows, std::min(PAIRS, pairs - pair), out);
    }
}

void gather_rows(const float *x, int64_t m, int64_t k, int64_t block, float *out) {
  const int64_t most = block_rows(m, FLOAT_ROWS), first = block * most;
  const int64_t rows = std::min(most, m - first);
  out += first * k;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < k; i++) out[i * rows + r] = x[(first + r) * k + i];
}
