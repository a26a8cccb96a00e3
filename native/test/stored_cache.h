/* What a cache of each type makes of keys and values, naively. */
#pragma once
#include <vector>

#include "harness.h"

struct CacheType {
  int32_t type;
  const char *name;
  int32_t group; /* elements that share a scale, or 1 */
};

/* A value as the cache has it: code * scale + least. `size` is the sum of the sizes of these. */
struct Stored {
  double value, size;
};

extern const std::vector<CacheType> CACHES;

std::vector<Stored> store(const CacheType &c, const Array<float> &x);

/* Of the keys, or the values, of all heads. */
int64_t page_bytes(const CacheType &c, int32_t kv_heads, int32_t head);
