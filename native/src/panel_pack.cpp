/* Into panel order. */
#include <algorithm>
#include <type_traits>
#include <vector>

#include "panel.h"
#include "paths.h"
#include "simd.h"
#include "team.h"
#include "transpose.h"

static constexpr int P = FLX_PANEL;

extern "C" int32_t flx_packs(int32_t type, int64_t k) {
  if (const IntegerFormat *f = integer_format(type)) return k % f->values == 0;
  return is_float(type) && (!in_bfloats(type) || k % 2 == 0);
}

namespace {
/* Rows in the file's order; those that are not there are zeros. */
struct Rows {
  const uint8_t *data;
  int64_t row_bytes;
  int64_t count;
};
} // namespace

/* k side by side for all rows; a few of k at a time, so that rows and panel are both in the first cache. */
template <class T> static void pack_values(const Rows &rows, int64_t k, uint8_t *out) {
  constexpr int64_t STEP = 64;
  T *to = reinterpret_cast<T *>(out);
  if (rows.count < P) std::fill(to, to + k * P, T{});
  for (int64_t k0 = 0; k0 < k; k0 += STEP)
    transpose(reinterpret_cast<const T *>(rows.data) + k0, rows.count, std::min(STEP, k - k0), rows.row_bytes / static_cast<int64_t>(sizeof(T)), to + k0 * P, P);
}

/* Bit `bit` of each of 64 bytes. */
static uint64_t plane_of(const uint8_t *bytes, int bit) {
#if defined(FLX_ISA_AVX512)
  return _mm512_test_epi8_mask(_mm512_loadu_si512(bytes), _mm512_set1_epi8(static_cast<char>(1 << bit)));
#else
  uint64_t plane = 0;
  for (int i = 0; i < 64; i += 4) {
    uint32_t four;
    std::memcpy(&four, bytes + i, 4);
    /* The product brings the 4 bits side by side. */
    plane |= static_cast<uint64_t>((((four >> bit) & 0x01010101u) * 0x01020408u) >> 24) << i;
  }
  return plane;
#endif
}

/* 32 k of 32 rows. */
template <int BITS, class Block> static void pack_codes(const Block *const *rows, int group, uint32_t flip, uint8_t *out) {
  uint32_t words[GROUP / 4][P]; /* 4 codes of every row */
  for (int r = 0; r < P; r++) {
    uint8_t codes[GROUP];
    codes_of(*rows[r], group, codes);
    for (int step = 0; step < GROUP / 4; step++) std::memcpy(&words[step][r], codes + step * 4, 4);
  }
  uint32_t *to = reinterpret_cast<uint32_t *>(out);
  for (int step = 0; step < GROUP / 4; step++) {
    if (BITS == 8) {
      for (int r = 0; r < P; r++) to[step * P + r] = words[step][r] ^ flip;
      continue;
    }
    for (int r = 0; r < P / 2; r++) to[step * P / 2 + r] = (words[step][r] & 0x0f0f0f0fu) | (words[step][r + P / 2] & 0x0f0f0f0fu) << 4;
    for (int plane = 0; plane < BITS - 4; plane++)
      for (int half = 0; half < 2; half++) {
        const uint64_t bits = plane_of(reinterpret_cast<const uint8_t *>(&words[step][half * P / 2]), 4 + plane);
        std::memcpy(out + 512 + plane * 128 + step * 16 + half * 8, &bits, 8);
      }
  }
}

static void pack_scales(const uint8_t *scales, int count, int row, uint8_t *out) {
  for (int i = 0; i < count; i++) out[i * P + row] = scales[i];
}

template <class Block> static void pack_header(const Block &block, int row, uint8_t *out) {
  uint16_t *halves = reinterpret_cast<uint16_t *>(out);
  halves[row] = block.d;
  if constexpr (std::is_same_v<Block, BlockQ6K>) pack_scales(reinterpret_cast<const uint8_t *>(block.scales), 16, row, out + 2 * P);
  constexpr bool k_scales = std::is_same_v<Block, BlockQ4K> || std::is_same_v<Block, BlockQ5K>;
  if constexpr (k_scales || std::is_same_v<Block, BlockQ41> || std::is_same_v<Block, BlockQ51>) halves[P + row] = block.m;
  if constexpr (k_scales) pack_scales(block.scales, 12, row, out + 4 * P);
}

template <class Block, int BITS> static void pack_blocks(const IntegerFormat &f, const Rows &rows, int64_t k, uint8_t *out, uint32_t flip = 0) {
  const Block nothing{};
  const Block *blocks[P];
  for (int64_t b = 0; b < k / f.values; b++, out += P * sizeof(Block)) {
    for (int r = 0; r < P; r++) blocks[r] = r < rows.count ? reinterpret_cast<const Block *>(rows.data + r * rows.row_bytes) + b : &nothing;
    for (int r = 0; r < P; r++) pack_header(*blocks[r], r, out);
    for (int g = 0; g < f.values / GROUP; g++) pack_codes<BITS>(blocks, g, flip, out + header_bytes(f) + g * group_bytes(f));
  }
}

void pack_panel(const flx_weight &w, const uint8_t *from, int64_t count, uint8_t *out) {
  const Rows rows{from, w.row_bytes, count};
  /* With BF16 instructions, pairs are moved as one. */
  if (in_bfloats(w.type)) return pack_values<uint32_t>(rows, w.k / 2, out);
  if (is_float(w.type)) return w.type == FLX_F32 ? pack_values<uint32_t>(rows, w.k, out) : pack_values<uint16_t>(rows, w.k, out);
  const IntegerFormat &f = *integer_format(w.type);
  switch (w.type) {
    case FLX_Q4_1: return pack_blocks<BlockQ41, 4>(f, rows, w.k, out);
    case FLX_Q5_0: return pack_blocks<BlockQ50, 5>(f, rows, w.k, out);
    case FLX_Q5_1: return pack_blocks<BlockQ51, 5>(f, rows, w.k, out);
    case FLX_Q8_0: return pack_blocks<BlockQ80, 8>(f, rows, w.k, out, signed_bytes(w.type) ? 0 : 0x80808080u);
    case FLX_Q4_K: return pack_blocks<BlockQ4K, 4>(f, rows, w.k, out);
    case FLX_Q5_K: return pack_blocks<BlockQ5K, 5>(f, rows, w.k, out);
    case FLX_Q6_K: return pack_blocks<BlockQ6K, 6>(f, rows, w.k, out);
    default: return pack_blocks<BlockQ40, 4>(f, rows, w.k, out); /* Q4_0 and IQ4_NL */
  }
}

extern "C" void flx_pack(flx_team *team, const flx_weight *weight) {
  const flx_weight w = *weight;
  const int64_t bytes = w.row_bytes * P;
  parallel(team, w.n / P, [&](int64_t panel) {
    uint8_t *data = static_cast<uint8_t *>(w.data) + panel * bytes;
    static thread_local std::vector<uint8_t> rows;
    rows.assign(data, data + bytes);
    pack_panel(w, rows.data(), P, data);
  });
}

static const uint8_t *row_of(const flx_weight &w, int64_t row) { return static_cast<const uint8_t *>(w.data) + row * w.row_bytes; }

/* Bytes of `count` values of a row. */
static int64_t bytes_of(const flx_weight &w, int64_t count) {
  const IntegerFormat *f = integer_format(w.type);
  return f ? count / f->values * (w.row_bytes / (w.k / f->values)) : count * (w.type == FLX_F32 ? 4 : 2);
}

int64_t panel_bytes(const flx_weight &w, int64_t count) { return bytes_of(w, count) * P; }

const uint8_t *packed_panel(const flx_weight &w, int64_t panel, int64_t k0) {
  if (panel >= packed_panels(w)) return nullptr;
  return row_of(w, panel * P) + bytes_of(w, k0) * P;
}

const uint8_t *panel_in_order(const flx_weight &w, int64_t panel, int64_t k0, int64_t count) {
  if (const uint8_t *packed = packed_panel(w, panel, k0)) return packed;
  static thread_local std::vector<uint8_t> copy;
  copy.resize(static_cast<size_t>(bytes_of(w, count) * P));
  flx_weight part = w;
  part.k = static_cast<int32_t>(count);
  pack_panel(part, row_of(w, panel * P) + bytes_of(w, k0), std::min<int64_t>(P, w.n - panel * P), copy.data());
  return copy.data();
}
