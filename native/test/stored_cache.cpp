#include "stored_cache.h"

#include <algorithm>
#include <cmath>

#include "formats.h"

const std::vector<CacheType> CACHES = {{FLX_F32, "f32", 1},    {FLX_F16, "f16", 1},    {FLX_BF16, "bf16", 1}, {FLX_Q8_0, "q8_0", 32},
                                              {FLX_Q4_0, "q4_0", 32}, {FLX_Q4_1, "q4_1", 32}, {FLX_G4, "g4", 64}};

/* In f32 and in this order of operations, since another rounding would give other codes. */
static void store_group(const CacheType &c, const float *x, Stored *out) {
  const float least = *std::min_element(x, x + c.group), most = *std::max_element(x, x + c.group);
  const float largest = std::fabs(least) >= std::fabs(most) ? least : most;
  const bool has_minimum = c.type == FLX_Q4_1 || c.type == FLX_G4;
  const float scale = has_minimum ? (most - least) / 15 : c.type == FLX_Q8_0 ? std::fabs(largest) / 127 : largest / -8;
  const int zero = has_minimum ? 0 : c.type == FLX_Q8_0 ? 128 : 8, top = c.type == FLX_Q8_0 ? 255 : 15;
  const double stored = from_half(to_half(scale)), minimum = has_minimum ? from_half(to_half(least)) : -zero * stored;
  for (int32_t i = 0; i < c.group; i++) {
    const float code = (x[i] - (has_minimum ? least : 0)) * (scale == 0 ? 0 : 1 / scale) + static_cast<float>(zero);
    const double rounded = std::min<double>(top, std::max<double>(0, std::floor(static_cast<double>(code + 0.5f))));
    out[i] = {rounded * stored + minimum, rounded * std::fabs(stored) + std::fabs(minimum)};
  }
}

std::vector<Stored> store(const CacheType &c, const Array<float> &x) {
  std::vector<Stored> stored(static_cast<size_t>(x.size()));
  for (int64_t i = 0; i < x.size(); i += c.group) {
    if (c.group > 1) {
      store_group(c, &x[i], &stored[static_cast<size_t>(i)]);
      continue;
    }
    const double value = c.type == FLX_F32 ? static_cast<double>(x[i]) : c.type == FLX_F16 ? from_half(to_half(x[i])) : from_bfloat(to_bfloat(x[i]));
    stored[static_cast<size_t>(i)] = {value, std::fabs(value)};
  }
  return stored;
}

int64_t page_bytes(const CacheType &c, int32_t kv_heads, int32_t head) {
  const int64_t elements = FLX_PAGE * static_cast<int64_t>(kv_heads) * head;
  switch (c.type) {
    case FLX_F32: return elements * 4;
    case FLX_Q8_0: return elements + elements / 32 * 2;
    case FLX_Q4_0: return elements / 2 + elements / 32 * 2;
    case FLX_Q4_1: return elements / 2 + elements / 32 * 4;
    case FLX_G4: return elements / 2 + elements / 64 * 4;
    default: return elements * 2;
  }
}
