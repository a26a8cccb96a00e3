/* Out of panel order, into what the kernels multiply. */
#include <algorithm>
#include <vector>

#include "panel.h"
#include "paths.h"
#include "quants.h"

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
static void unpack_codes(int32_t type, const uint8_t *group, uint8_t *to) {
  with_form(type, [&](auto form) {
    for (int step = 0; step < GROUP / 4; step++) {
      I codes[2];
      form.load(group, step, codes);
      for (int v = 0; v < 2; v++) _mm512_storeu_si512(to + step * 128 + v * 64, codes[v]);
    }
  });
}
#else
static void unpack_nibbles(const uint8_t *group, uint8_t *to) {
  for (int step = 0; step < GROUP / 4; step++, group += 64, to += 128)
    for (int i = 0; i < 64; i++) {
      to[i] = group[i] & 15;
      to[64 + i] = group[i] >> 4;
    }
}

static void unpack_codes(int32_t type, const uint8_t *group, uint8_t *to) {
  if (type == FLX_Q8_0) {
    std::memcpy(to, group, P * GROUP);
    return;
  }
  unpack_nibbles(group, to);
  for (int plane = 0; plane < integer_format(type)->bits - 4; plane++) {
    const uint8_t *bits = group + 512 + plane * 128;
    for (int i = 0; i < P * GROUP; i++) to[i] = static_cast<uint8_t>(to[i] | ((bits[i / 8] >> (i % 8)) & 1) << (4 + plane));
  }
  if (type == FLX_IQ4_NL)
    for (int i = 0; i < P * GROUP; i++) to[i] = static_cast<uint8_t>(IQ4_NL_VALUES[to[i]]);
}
#endif

static void widen_halves(const uint8_t *from, float *to) {
  for (int r = 0; r < P; r += LANES) f_store(to + r, f_from_half(reinterpret_cast<const uint16_t *>(from) + r));
}

/* Scales and minima of 6 bits, packed in 12 bytes a row, times those of the block. */
static void unpack_k_scales(const uint8_t *header, float *scales, float *minima) {
  float d[P], m[P];
  widen_halves(header, d);
  widen_halves(header + 2 * P, m);
  const uint8_t *s = header + 4 * P;
  for (int j = 0; j < 8; j++)
    for (int r = 0; r < P; r++) {
      const int low = j < 4 ? s[j * P + r] & 63 : (s[(j + 4) * P + r] & 15) | ((s[(j - 4) * P + r] >> 6) << 4);
      const int high = j < 4 ? s[(j + 4) * P + r] & 63 : (s[(j + 4) * P + r] >> 4) | ((s[j * P + r] >> 6) << 4);
      scales[j * P + r] = d[r] * static_cast<float>(low);
      minima[j * P + r] = m[r] * static_cast<float>(high);
    }
}

void unpack_header(int32_t type, const uint8_t *header, float *scales, float *minima) {
  const IntegerFormat &f = *integer_format(type);
  if (f.k_scales) return unpack_k_scales(header, scales, minima);
  if (type == FLX_Q6_K) {
    float d[P];
    widen_halves(header, d);
    for (int j = 0; j < 16; j++)
      for (int r = 0; r < P; r++) scales[j * P + r] = d[r] * static_cast<float>(static_cast<int8_t>(header[2 * P + j * P + r]));
    return;
  }
  widen_halves(header, scales);
  if (!f.minimum) return;
  widen_halves(header + 2 * P, minima);
  for (int r = 0; r < P; r++) minima[r] = -minima[r]; /* these add their minimum, K blocks take it away */
}

void unpack_integer(int32_t type, const uint8_t *packed, int64_t count, const IntegerPanel &out) {
  const IntegerFormat &f = *integer_format(type);
  const int64_t groups = f.values / GROUP, spans = f.values / f.scale_values;
  for (int64_t b = 0; b < count / f.values; b++, packed += panel_block_bytes(f)) {
    ask_for(packed + AHEAD_BYTES, panel_block_bytes(f));
    unpack_header(type, packed, out.scales + b * spans * P, out.minima + b * spans * P);
    for (int64_t g = 0; g < groups; g++) unpack_codes(type, packed + header_bytes(f) + g * group_bytes(f), out.quants + (b * groups + g) * GROUP * P);
  }
}

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
  std::vector<uint8_t> quants(static_cast<size_t>(f.values * P));
  std::vector<float> scales(static_cast<size_t>(f.values / f.scale_values * P)), minima(scales.size());
  const int r = static_cast<int>(row % P);
  const int32_t zero = zero_point(w.type);
  for (int64_t k0 = 0; k0 < w.k; k0 += f.values) {
    const uint8_t *packed = packed_panel(w, row / P, k0);
    unpack_integer(w.type, packed ? packed : packed_copy(w, row / P, k0, f.values), f.values, {quants.data(), scales.data(), minima.data()});
    for (int i = 0; i < f.values; i++) {
      const size_t at = static_cast<size_t>(i / 4 * P * 4 + r * 4 + i % 4), scale = static_cast<size_t>(i / f.scale_values * P + r);
      const int32_t q = signed_quants(w.type) ? static_cast<int8_t>(quants[at]) : quants[at];
      out[k0 + i] = scales[scale] * static_cast<float>(q - zero) - minima[scale];
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
