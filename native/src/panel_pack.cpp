/* Into panel order. */
#include <algorithm>
#include <type_traits>
#include <vector>

#include "panel.h"
#include "paths.h"
#include "team.h"

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
  template <class T> T value(int64_t row, int64_t index) const {
    T value{};
    if (row < count) std::memcpy(&value, data + row * row_bytes + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return value;
  }
};
} // namespace

/* `together` values of k side by side. */
template <class T> static void pack_values(const Rows &rows, int64_t k, int64_t together, uint8_t *out) {
  T *to = reinterpret_cast<T *>(out);
  constexpr int64_t STEP = 64; /* a cache line or more of every row at a time */
  for (int64_t k0 = 0; k0 < k; k0 += STEP)
    for (int r = 0; r < P; r++)
      for (int64_t i = k0; i < std::min(k, k0 + STEP); i++) to[(i / together * P + r) * together + i % together] = rows.value<T>(r, i);
}

/* 32 k of 32 rows. */
template <int BITS, class Block> static void pack_codes(const Block *const *rows, int k0, int flip, uint8_t *out) {
  uint64_t planes[BITS == 8 ? 1 : BITS - 3][8][2] = {};
  for (int step = 0; step < GROUP / 4; step++)
    for (int r = 0; r < P / 2; r++)
      for (int i = 0; i < 4; i++) {
        const int k = k0 + step * 4 + i, at = r * 4 + i;
        const int low = code_of(*rows[r], k), high = code_of(*rows[r + P / 2], k);
        if (BITS == 8) {
          out[step * P * 4 + at] = static_cast<uint8_t>(low ^ flip);
          out[step * P * 4 + P * 2 + at] = static_cast<uint8_t>(high ^ flip);
          continue;
        }
        out[step * P * 2 + at] = static_cast<uint8_t>((low & 15) | (high & 15) << 4);
        for (int plane = 0; plane < BITS - 4; plane++) {
          planes[plane][step][0] |= static_cast<uint64_t>((low >> (4 + plane)) & 1) << at;
          planes[plane][step][1] |= static_cast<uint64_t>((high >> (4 + plane)) & 1) << at;
        }
      }
  if (BITS > 4 && BITS < 8) std::memcpy(out + 512, planes, (BITS - 4) * sizeof(planes[0]));
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

template <class Block, int BITS> static void pack_blocks(const IntegerFormat &f, const Rows &rows, int64_t k, uint8_t *out, int flip = 0) {
  const Block nothing{};
  const Block *blocks[P];
  for (int64_t b = 0; b < k / f.values; b++, out += P * sizeof(Block)) {
    for (int r = 0; r < P; r++) blocks[r] = r < rows.count ? reinterpret_cast<const Block *>(rows.data + r * rows.row_bytes) + b : &nothing;
    for (int r = 0; r < P; r++) pack_header(*blocks[r], r, out);
    for (int k0 = 0; k0 < f.values; k0 += GROUP) pack_codes<BITS>(blocks, k0, flip, out + header_bytes(f) + k0 / GROUP * group_bytes(f));
  }
}

void pack_panel(const flx_weight &w, const uint8_t *from, int64_t count, uint8_t *out) {
  const Rows rows{from, w.row_bytes, count};
  if (w.type == FLX_F32) return pack_values<uint32_t>(rows, w.k, 1, out);
  if (is_float(w.type)) return pack_values<uint16_t>(rows, w.k, in_bfloats(w.type) ? 2 : 1, out);
  const IntegerFormat &f = *integer_format(w.type);
  switch (w.type) {
    case FLX_Q4_1: return pack_blocks<BlockQ41, 4>(f, rows, w.k, out);
    case FLX_Q5_0: return pack_blocks<BlockQ50, 5>(f, rows, w.k, out);
    case FLX_Q5_1: return pack_blocks<BlockQ51, 5>(f, rows, w.k, out);
    case FLX_Q8_0: return pack_blocks<BlockQ80, 8>(f, rows, w.k, out, signed_quants(w.type) ? 0 : 0x80);
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
    const std::vector<uint8_t> rows(data, data + bytes);
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
  if (!w.packed || w.n - panel * P < P) return nullptr;
  return row_of(w, panel * P) + bytes_of(w, k0) * P;
}

const uint8_t *packed_copy(const flx_weight &w, int64_t panel, int64_t k0, int64_t count) {
  static thread_local std::vector<uint8_t> copy;
  copy.resize(static_cast<size_t>(bytes_of(w, count) * P));
  flx_weight part = w;
  part.k = static_cast<int32_t>(count);
  pack_panel(part, row_of(w, panel * P) + bytes_of(w, k0), std::min<int64_t>(P, w.n - panel * P), copy.data());
  return copy.data();
}
