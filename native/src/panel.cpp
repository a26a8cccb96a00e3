#include "panel.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "simd.h"
#include "team.h"

static constexpr int P = FLX_PANEL;

int32_t zero_point(int32_t type) {
  if (type == FLX_Q4_0) return 8;
  return type == FLX_Q8_0 && !signed_quants(type) ? 128 : 0;
}

bool signed_quants(int32_t type) {
#if defined(FLX_ISA_AVX512)
  (void)type;
  return false;
#else
  return type == FLX_Q8_0;
#endif
}

extern "C" int32_t flx_packs(int32_t type, int64_t k) {
  return (is_float(type) || is_integer(type)) && k % block_values(type) == 0 && (is_float(type) || k % GROUP == 0);
}

static const uint8_t *row_of(const flx_weight &w, int64_t row) { return static_cast<const uint8_t *>(w.data) + row * w.row_bytes; }

/* ---- into panel order ---- */

template <class T> static void pack_values(const uint8_t *rows, int64_t row_bytes, int64_t k, uint8_t *out) {
  T *to = reinterpret_cast<T *>(out);
  constexpr int64_t STEP = 64; /* a cache line or more of every row at a time */
  for (int64_t k0 = 0; k0 < k; k0 += STEP)
    for (int r = 0; r < P; r++) {
      const T *from = reinterpret_cast<const T *>(rows + r * row_bytes);
      for (int64_t i = k0; i < std::min(k, k0 + STEP); i++) to[i * P + r] = from[i];
    }
}

/* 32 rows of 32 nibbles in the file's order of `nibbles(row)`: value i of a group in the low half of byte i, i + 16 in the high one. */
template <class Nibbles> static void pack_nibbles(const Nibbles &nibble, uint8_t *out) {
  for (int step = 0; step < GROUP / 4; step++)
    for (int r = 0; r < P / 2; r++)
      for (int i = 0; i < 4; i++)
        out[step * 64 + r * 4 + i] = static_cast<uint8_t>(nibble(r, step * 4 + i) | (nibble(r + P / 2, step * 4 + i) << 4));
}

template <class Block> static const Block &block_at(const uint8_t *rows, int64_t row_bytes, int row, int64_t index) {
  return reinterpret_cast<const Block *>(rows + row * row_bytes)[index];
}

static void pack_q80(const uint8_t *rows, int64_t row_bytes, int64_t block, uint8_t *out) {
  uint16_t *scales = reinterpret_cast<uint16_t *>(out + P * GROUP);
  for (int r = 0; r < P; r++) {
    const BlockQ80 &from = block_at<BlockQ80>(rows, row_bytes, r, block);
    for (int i = 0; i < GROUP; i++) out[(i / 4) * P * 4 + r * 4 + i % 4] = static_cast<uint8_t>(from.q[i]);
    scales[r] = from.d;
  }
}

template <class Block> static void pack_q4(const uint8_t *rows, int64_t row_bytes, int64_t block, uint8_t *out) {
  pack_nibbles(
      [&](int r, int i) {
        const uint8_t byte = block_at<Block>(rows, row_bytes, r, block).q[i % 16];
        return i < 16 ? byte & 15 : byte >> 4;
      },
      out);
  uint16_t *scales = reinterpret_cast<uint16_t *>(out + P * GROUP / 2);
  for (int r = 0; r < P; r++) {
    const Block &from = block_at<Block>(rows, row_bytes, r, block);
    scales[r] = from.d;
    if constexpr (sizeof(Block) == sizeof(BlockQ41)) scales[P + r] = reinterpret_cast<const BlockQ41 &>(from).m;
  }
}

static void pack_q4k(const uint8_t *rows, int64_t row_bytes, int64_t block, uint8_t *out) {
  for (int group = 0; group < 8; group++)
    pack_nibbles(
        [&](int r, int i) {
          const uint8_t byte = block_at<BlockQ4K>(rows, row_bytes, r, block).q[(group / 2) * 32 + i];
          return group % 2 == 0 ? byte & 15 : byte >> 4;
        },
        out + group * P * GROUP / 2);
  uint16_t *super = reinterpret_cast<uint16_t *>(out + P * 128);
  uint8_t *scales = out + P * 128 + 4 * P;
  for (int r = 0; r < P; r++) {
    const BlockQ4K &from = block_at<BlockQ4K>(rows, row_bytes, r, block);
    super[r] = from.d;
    super[P + r] = from.m;
    for (int i = 0; i < 12; i++) scales[i * P + r] = from.scales[i];
  }
}

static void pack_panel(const flx_weight &w, const uint8_t *rows, uint8_t *out) {
  if (w.type == FLX_F32) return pack_values<uint32_t>(rows, w.row_bytes, w.k, out);
  if (w.type == FLX_F16 || w.type == FLX_BF16) return pack_values<uint16_t>(rows, w.row_bytes, w.k, out);
  const int64_t blocks = w.k / block_values(w.type);
  const int64_t bytes = w.row_bytes / blocks * P;
  for (int64_t block = 0; block < blocks; block++, out += bytes) {
    if (w.type == FLX_Q8_0) pack_q80(rows, w.row_bytes, block, out);
    else if (w.type == FLX_Q4_0) pack_q4<BlockQ40>(rows, w.row_bytes, block, out);
    else if (w.type == FLX_Q4_1) pack_q4<BlockQ41>(rows, w.row_bytes, block, out);
    else pack_q4k(rows, w.row_bytes, block, out);
  }
}

extern "C" void flx_pack(flx_team *team, const flx_weight *weight) {
  const flx_weight w = *weight;
  const int64_t bytes = w.row_bytes * P;
  parallel(team, w.n / P, [&](int64_t panel) {
    uint8_t *data = static_cast<uint8_t *>(w.data) + panel * bytes;
    const std::vector<uint8_t> rows(data, data + bytes);
    pack_panel(w, rows.data(), data);
  });
}

/* ---- out of it, for the integer kernel ---- */

/*
 * Asks for the bytes that are wanted next: about a piece of K ahead, so that they come from memory while this piece is computed. The processor's own
 * prefetching stops whenever reading does. Panels follow each other, and asking beyond the last one does no harm.
 */
static constexpr int64_t AHEAD_BYTES = 10 << 10;

static inline void ask_ahead(const uint8_t *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + AHEAD_BYTES + i, 0, 2);
}

static void split_nibbles(const uint8_t *from, uint8_t *to) {
  for (int step = 0; step < GROUP / 4; step++, from += 64, to += 128)
    for (int i = 0; i < 64; i++) {
      to[i] = from[i] & 15;
      to[64 + i] = from[i] >> 4;
    }
}

static void widen_halves(const uint16_t *from, float *to) {
  for (int r = 0; r < P; r += LANES) f_store(to + r, f_from_half(from + r));
}

static void unpack_q80(const uint8_t *from, uint8_t *quants, float *scales) {
  const uint8_t flip = signed_quants(FLX_Q8_0) ? 0 : 0x80;
  for (int i = 0; i < P * GROUP; i++) quants[i] = from[i] ^ flip;
  widen_halves(reinterpret_cast<const uint16_t *>(from + P * GROUP), scales);
}

static void unpack_q4k(const uint8_t *from, uint8_t *quants, float *scales, float *minima) {
  float d[P], m[P];
  widen_halves(reinterpret_cast<const uint16_t *>(from + P * 128), d);
  widen_halves(reinterpret_cast<const uint16_t *>(from + P * 128) + P, m);
  const uint8_t *s = from + P * 128 + 4 * P;
  for (int j = 0; j < 8; j++) {
    split_nibbles(from + j * P * GROUP / 2, quants + j * P * GROUP);
    for (int r = 0; r < P; r++) {
      const int low = j < 4 ? s[j * P + r] & 63 : (s[(j + 4) * P + r] & 15) | ((s[(j - 4) * P + r] >> 6) << 4);
      const int high = j < 4 ? s[(j + 4) * P + r] & 63 : (s[(j + 4) * P + r] >> 4) | ((s[j * P + r] >> 6) << 4);
      scales[j * P + r] = d[r] * static_cast<float>(low);
      minima[j * P + r] = m[r] * static_cast<float>(high);
    }
  }
}

static void unpack_panel(int32_t type, const uint8_t *from, int64_t block_bytes, int64_t blocks, const IntegerPanel &out) {
  const int64_t values = block_values(type);
  for (int64_t b = 0; b < blocks; b++, from += block_bytes) {
    ask_ahead(from, block_bytes);
    uint8_t *quants = out.quants + b * values * P;
    float *scales = out.scales + b * values / GROUP * P;
    float *minima = out.minima + b * values / GROUP * P;
    if (type == FLX_Q8_0) unpack_q80(from, quants, scales);
    else if (type == FLX_Q4_K) unpack_q4k(from, quants, scales, minima);
    else {
      split_nibbles(from, quants);
      widen_halves(reinterpret_cast<const uint16_t *>(from + P * GROUP / 2), scales);
      if (type != FLX_Q4_1) continue;
      widen_halves(reinterpret_cast<const uint16_t *>(from + P * GROUP / 2) + P, minima);
      for (int r = 0; r < P; r++) minima[r] = -minima[r]; /* Q4_1 adds its minimum, Q4_K takes it away */
    }
  }
}

void unpack_integer(const flx_weight &w, int64_t panel, int64_t k0, int64_t count, const IntegerPanel &out) {
  const int64_t values = block_values(w.type);
  const int64_t row_block_bytes = w.row_bytes / (w.k / values);
  const int64_t rows = std::min<int64_t>(P, w.n - panel * P);
  if (w.packed && rows == P) {
    const uint8_t *data = row_of(w, panel * P) + k0 / values * row_block_bytes * P;
    return unpack_panel(w.type, data, row_block_bytes * P, count / values, out);
  }
  /* Rows in the file's order: pack a copy of this piece, with rows of zeros behind the last one. */
  const int64_t piece = count / values * row_block_bytes;
  std::vector<uint8_t> copy(static_cast<size_t>(P * piece)), packed(copy.size());
  for (int64_t r = 0; r < rows; r++) std::memcpy(copy.data() + r * piece, row_of(w, panel * P + r) + k0 / values * row_block_bytes, static_cast<size_t>(piece));
  flx_weight part = w;
  part.row_bytes = piece;
  part.k = static_cast<int32_t>(count);
  pack_panel(part, copy.data(), packed.data());
  unpack_panel(w.type, packed.data(), row_block_bytes * P, count / values, out);
}

/* ---- as floats ---- */

template <class T, class Widen> static void widen_panel(const T *from, int64_t count, float *to, const Widen &widen) {
  for (int64_t i = 0; i < count * P; i += P) {
    ask_ahead(reinterpret_cast<const uint8_t *>(from + i), P * static_cast<int64_t>(sizeof(T)));
    for (int j = 0; j < P; j += LANES) f_store(to + i + j, widen(from + i + j));
  }
}

static void widen_values(const flx_weight &w, int64_t row, int64_t k0, int64_t count, float *out) {
  const uint8_t *data = row_of(w, row);
  if (w.type == FLX_F32) std::memcpy(out, data + k0 * 4, static_cast<size_t>(count) * 4);
  else if (w.type == FLX_F16)
    for (int64_t i = 0; i < count; i++) out[i] = half_to_float(reinterpret_cast<const uint16_t *>(data)[k0 + i]);
  else if (w.type == FLX_BF16)
    for (int64_t i = 0; i < count; i++) out[i] = bfloat_to_float(reinterpret_cast<const uint16_t *>(data)[k0 + i]);
  else w.to_float(data + k0 * w.row_bytes / w.k, out, count); /* k0 is a multiple of every block */
}

const void *packed_panel(const flx_weight &w, int64_t panel, int64_t k0) {
  if (!w.packed || w.n - panel * P < P) return nullptr;
  return row_of(w, panel * P) + k0 * P * (w.type == FLX_F32 ? 4 : 2);
}

void unpack_float(const flx_weight &w, int64_t panel, int64_t k0, int64_t count, float *out) {
  const int64_t rows = std::min<int64_t>(P, w.n - panel * P);
  if (const uint16_t *values = static_cast<const uint16_t *>(packed_panel(w, panel, k0))) {
    if (w.type == FLX_F16) widen_panel(values, count, out, f_from_half);
    else widen_panel(values, count, out, f_from_bfloat);
    return;
  }
  std::vector<float> row(static_cast<size_t>(count));
  for (int64_t r = 0; r < P; r++) {
    if (r < rows) widen_values(w, panel * P + r, k0, count, row.data());
    else std::fill(row.begin(), row.end(), 0.f);
    for (int64_t i = 0; i < count; i++) out[i * P + r] = row[static_cast<size_t>(i)];
  }
}

static void unpack_integer_row(const flx_weight &w, int64_t row, float *out) {
  const int64_t values = block_values(w.type);
  std::vector<uint8_t> quants(static_cast<size_t>(values * P));
  std::vector<float> scales(static_cast<size_t>(values / GROUP * P)), minima(scales.size());
  const int r = static_cast<int>(row % P);
  const int32_t zero = zero_point(w.type);
  for (int64_t k0 = 0; k0 < w.k; k0 += values) {
    unpack_integer(w, row / P, k0, values, {quants.data(), scales.data(), minima.data()});
    for (int64_t i = 0; i < values; i++) {
      const size_t at = static_cast<size_t>((i / 4) * P * 4 + r * 4 + i % 4), group = static_cast<size_t>(i / GROUP * P + r);
      const int32_t q = signed_quants(w.type) ? static_cast<int8_t>(quants[at]) : quants[at];
      out[k0 + i] = scales[group] * static_cast<float>(q - zero) - minima[group];
    }
  }
}

void unpack_row(const flx_weight &w, int64_t row, float *out) {
  if (is_integer(w.type)) return unpack_integer_row(w, row, out);
  if (!w.packed || row >= w.n / P * P) return widen_values(w, row, 0, w.k, out);
  const uint8_t *data = row_of(w, row / P * P);
  for (int64_t i = 0; i < w.k; i++) {
    const size_t at = static_cast<size_t>(i * P + row % P);
    if (w.type == FLX_F32) out[i] = reinterpret_cast<const float *>(data)[at];
    else if (w.type == FLX_F16) out[i] = half_to_float(reinterpret_cast<const uint16_t *>(data)[at]);
    else out[i] = bfloat_to_float(reinterpret_cast<const uint16_t *>(data)[at]);
  }
}
