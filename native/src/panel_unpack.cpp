/* Out of panel order, into what the kernels multiply. */
#include <algorithm>
#include <vector>

#include "panel.h"
#include "paths.h"
#include "quants.h"
#include "simd.h"

static constexpr int P = FLX_PANEL;
/* About a piece of K. */
static constexpr int64_t AHEAD_BYTES = 10 << 10;

bool signed_quants(int32_t type) {
#if defined(FLX_ISA_AVX512)
  (void)type;
  return false;
#else
  return type == FLX_Q8_0 || type == FLX_IQ4_NL;
#endif
}

int32_t zero_point(int32_t type) { return signed_quants(type) ? 0 : integer_format(type)->zero; }

#if defined(FLX_ISA_AVX512)
/* Less `zero`. */
static void unpack_group(int32_t type, const uint8_t *group, uint8_t *to, int32_t zero = 0) {
  const I zeros = _mm512_set1_epi8(static_cast<char>(zero));
  with_form(type, [&](auto form) {
    for (int step = 0; step < GROUP / 4; step++) {
      I codes[2];
      form.load(group, step, codes);
      for (int v = 0; v < 2; v++) _mm512_storeu_si512(to + step * 128 + v * 64, _mm512_sub_epi8(codes[v], zeros));
    }
  });
}
#else
/* Adds `value` to those of 32 bytes whose bit is set. */
static void add_bits(const uint8_t *bits, uint8_t value, uint8_t *to) {
#if defined(__AVX2__)
  I *at = reinterpret_cast<I *>(to);
  _mm256_storeu_si256(at, _mm256_or_si256(load_vector(at), where_set(bits, value)));
#else
  for (int i = 0; i < 32; i++) to[i] = static_cast<uint8_t>(to[i] | ((bits[i / 8] >> (i % 8)) & 1 ? value : 0));
#endif
}

static void unpack_nibbles(const uint8_t *group, uint8_t *to) {
  for (int step = 0; step < GROUP / 4; step++, group += 64, to += 128)
    for (int i = 0; i < 64; i++) {
      to[i] = group[i] & 15;
      to[64 + i] = group[i] >> 4;
    }
}

/* 32 k of codes of IQ4_NL become values. */
static void look_up_all(uint8_t *codes) {
#if defined(__AVX2__)
  for (int i = 0; i < P * GROUP; i += 32) {
    I *at = reinterpret_cast<I *>(codes + i);
    _mm256_storeu_si256(at, look_up(load_vector(at)));
  }
#else
  for (int i = 0; i < P * GROUP; i++) codes[i] = static_cast<uint8_t>(IQ4_NL_VALUES[codes[i]]);
#endif
}

static void unpack_group(int32_t type, const uint8_t *group, uint8_t *to) {
  if (type == FLX_Q8_0) {
    std::memcpy(to, group, P * GROUP);
    return;
  }
  unpack_nibbles(group, to);
  for (int plane = 0; plane < integer_format(type)->bits - 4; plane++) {
    const uint8_t *bits = group + 512 + plane * 128;
    for (int i = 0; i < P * GROUP; i += 32) add_bits(bits + i / 8, static_cast<uint8_t>(16 << plane), to + i);
  }
  if (type == FLX_IQ4_NL) look_up_all(to);
}
#endif

static void widen_halves(const uint8_t *from, float *to) {
  for (int r = 0; r < P; r += LANES) f_store(to + r, f_from_half(reinterpret_cast<const uint16_t *>(from) + r));
}

/* Scales and minima of 6 bits, packed in 12 bytes a row. By way of memory of its own, so that the compiler makes vectors of it. */
static void unpack_k_factors(const uint8_t *s, int8_t *scales, int16_t *minima) {
  constexpr int HALF = 4 * P;
  uint8_t packed[3 * HALF], low[2 * HALF], high[2 * HALF];
  std::memcpy(packed, s, sizeof packed);
  for (int i = 0; i < HALF; i++) {
    const uint8_t first = packed[i], second = packed[HALF + i], rest = packed[2 * HALF + i];
    low[i] = first & 63;
    high[i] = second & 63;
    low[HALF + i] = static_cast<uint8_t>((rest & 15) | (first >> 6) << 4);
    high[HALF + i] = static_cast<uint8_t>(rest >> 4 | (second >> 6) << 4);
  }
  std::memcpy(scales, low, sizeof low);
  const int8_t *first = reinterpret_cast<const int8_t *>(high);
  for (int pair = 0; pair < 4; pair++, first += 2 * P)
    for (int r = 0; r < P; r += LANES, minima += 2 * LANES) {
      const I both = i_add(i_from_bytes(first + r), i_mul(i_from_bytes(first + P + r), i_set(1 << 16)));
      std::memcpy(minima, &both, sizeof both);
    }
}

/* Field by field, each in a short loop: with few rows, headers of groups are read nearly as often as codes are multiplied. */
void unpack_headers(int32_t type, const uint8_t *packed, int64_t count, const IntegerPanel &out) {
  const IntegerFormat &f = *integer_format(type);
  const int64_t blocks = count / f.values, bytes = panel_block_bytes(f), factors = f.values / f.scale_values * P;
  for (int64_t b = 0; b < blocks; b++) widen_halves(packed + b * bytes, out.scales + b * P);
  if (f.minimum)
    for (int64_t b = 0; b < blocks; b++) widen_halves(packed + b * bytes + 2 * P, out.minima + b * P);
  if (f.k_scales)
    for (int64_t b = 0; b < blocks; b++) unpack_k_factors(packed + b * bytes + 4 * P, out.scale_factors + b * factors, out.minimum_factors + b * factors);
  if (f.scale_values == 16)
    for (int64_t b = 0; b < blocks; b++) std::memcpy(out.scale_factors + b * factors, packed + b * bytes + 2 * P, static_cast<size_t>(factors));
}

/* Calls work(group, codes) for `count` of k. */
template <class Work> static void each_group(int32_t type, const uint8_t *packed, int64_t count, uint8_t *codes, const Work &work) {
  const IntegerFormat &f = *integer_format(type);
  const int64_t groups = f.values / GROUP;
  for (int64_t b = 0; b < count / f.values; b++, packed += panel_block_bytes(f))
    for (int64_t g = 0; g < groups; g++, codes += GROUP * P) work(packed + header_bytes(f) + g * group_bytes(f), codes);
}

void unpack_codes(int32_t type, const uint8_t *packed, int64_t count, uint8_t *codes) {
  each_group(type, packed, count, codes, [&](const uint8_t *group, uint8_t *to) { unpack_group(type, group, to); });
}

#if defined(FLX_ISA_AVX512)
void unpack_signed(int32_t type, const uint8_t *packed, int64_t count, uint8_t *codes) {
  each_group(type, packed, count, codes, [&](const uint8_t *group, uint8_t *to) { unpack_group(type, group, to, zero_point(type)); });
}
#endif

/* ---- floats ---- */

static void widen_values(const flx_weight &w, int64_t row, int64_t k0, int64_t count, float *out) {
  const uint8_t *data = static_cast<const uint8_t *>(w.data) + row * w.row_bytes;
  if (w.type == FLX_F32) std::memcpy(out, data + k0 * 4, static_cast<size_t>(count) * 4);
  else if (w.type == FLX_F16)
    for (int64_t i = 0; i < count; i++) out[i] = half_to_float(reinterpret_cast<const uint16_t *>(data)[k0 + i]);
  else if (w.type == FLX_BF16)
    for (int64_t i = 0; i < count; i++) out[i] = bfloat_to_float(reinterpret_cast<const uint16_t *>(data)[k0 + i]);
  else w.to_float(data + k0 * w.row_bytes / w.k, out, count); /* k0 is a multiple of every block */
}

template <class Widen> static void widen_panel(const uint16_t *from, int64_t count, float *to, const Widen &widen) {
  for (int64_t i = 0; i < count * P; i += P) {
    ask_for(reinterpret_cast<const uint8_t *>(from + i) + AHEAD_BYTES, P * 2);
    for (int j = 0; j < P; j += LANES) f_store(to + i + j, widen(from + i + j));
  }
}

/* Calls put(k, row, value) for all 32 rows of a panel in the file's order; those that are not there are zeros. */
template <class Put> static void each_value(const flx_weight &w, int64_t panel, int64_t k0, int64_t count, const Put &put) {
  std::vector<float> row(static_cast<size_t>(count));
  for (int64_t r = 0; r < P; r++) {
    if (panel * P + r < w.n) widen_values(w, panel * P + r, k0, count, row.data());
    else std::fill(row.begin(), row.end(), 0.f);
    for (int64_t i = 0; i < count; i++) put(i, r, row[static_cast<size_t>(i)]);
  }
}

void unpack_float(const flx_weight &w, int64_t panel, int64_t k0, int64_t count, float *out) {
  const uint8_t *packed = packed_panel(w, panel, k0);
  if (!packed) return each_value(w, panel, k0, count, [&](int64_t i, int64_t r, float value) { out[i * P + r] = value; });
  if (w.type == FLX_F32) std::memcpy(out, packed, static_cast<size_t>(count * P) * 4);
  else if (w.type == FLX_F16) widen_panel(reinterpret_cast<const uint16_t *>(packed), count, out, f_from_half);
  else widen_panel(reinterpret_cast<const uint16_t *>(packed), count, out, f_from_bfloat);
}

void unpack_bfloat(const flx_weight &w, int64_t panel, int64_t k0, int64_t count, uint16_t *out) {
  if (count % 2 != 0) std::memset(out + (count - 1) * P, 0, 2 * P * sizeof(uint16_t));
  each_value(w, panel, k0, count, [&](int64_t i, int64_t r, float value) { out[(i / 2 * P + r) * 2 + i % 2] = float_to_bfloat(value); });
}

/* ---- rows ---- */

static void unpack_integer_row(const flx_weight &w, int64_t row, float *out) {
  const IntegerFormat &f = *integer_format(w.type);
  alignas(64) uint8_t quants[K_BLOCK * P];
  float scales[P], minima[P] = {};
  int8_t scale_factors[K_BLOCK / 16 * P];
  int16_t minimum_factors[K_BLOCK / GROUP * P];
  const int r = static_cast<int>(row % P);
  const int32_t zero = zero_point(w.type);
  for (int64_t k0 = 0; k0 < w.k; k0 += f.values) {
    const uint8_t *packed = panel_in_order(w, row / P, k0, f.values);
    unpack_codes(w.type, packed, f.values, quants);
    unpack_headers(w.type, packed, f.values, {nullptr, scales, minima, scale_factors, minimum_factors});
    for (int i = 0; i < f.values; i++) {
      const int at = i / 4 * P * 4 + r * 4 + i % 4, span = i / f.scale_values;
      const int32_t q = signed_quants(w.type) ? static_cast<int8_t>(quants[at]) : quants[at];
      const float scale = f.values == GROUP ? scales[r] : scales[r] * static_cast<float>(scale_factors[span * P + r]);
      const float minimum = f.k_scales ? -minima[r] * minimum_factors[(span / 2 * P + r) * 2 + span % 2] : minima[r];
      const float value = scale * static_cast<float>(q - zero);
      out[k0 + i] = f.minimum ? value + minimum : value; /* adding 0 would make 0 of -0 */
    }
  }
}

void unpack_row(const flx_weight &w, int64_t row, float *out) {
  if (is_integer(w.type)) return unpack_integer_row(w, row, out);
  const uint8_t *data = packed_panel(w, row / P, 0);
  if (!data) return widen_values(w, row, 0, w.k, out);
  const int64_t together = in_bfloats(w.type) ? 2 : 1;
  for (int64_t i = 0; i < w.k; i++) {
    const size_t at = static_cast<size_t>((i / together * P + row % P) * together + i % together);
    if (w.type == FLX_F32) out[i] = reinterpret_cast<const float *>(data)[at];
    else if (w.type == FLX_F16) out[i] = half_to_float(reinterpret_cast<const uint16_t *>(data)[at]);
    else out[i] = bfloat_to_float(reinterpret_cast<const uint16_t *>(data)[at]);
  }
}
