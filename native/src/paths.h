/* How products with a type are computed by this library. */
#pragma once
#include "blocks.h"

#if defined(__AMX_BF16__) || defined(FLX_EMULATE_TILES)
#define FLX_ISA_TILES 1
#endif

/* By BF16 instructions: BF16 itself, and blocks that have no form for integers. */
static inline bool in_bfloats(int32_t type) {
#if defined(__AVX512BF16__)
  return type != FLX_F32 && type != FLX_F16 && !is_integer(type);
#else
  (void)type;
  return false;
#endif
}
