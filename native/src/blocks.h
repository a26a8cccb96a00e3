/* Blocks of quantised weights as GGUF files have them. Values and formulas: ggml-common.h of llama.cpp. */
#pragma once
#include <cstdint>

#include "../flexllmgen.h"

/* Values that share an integer scale here: block types with smaller ones have no integer path. */
static constexpr int GROUP = 32;

struct BlockQ40 { uint16_t d; uint8_t q[16]; };
struct BlockQ41 { uint16_t d, m; uint8_t q[16]; };
struct BlockQ80 { uint16_t d; int8_t q[32]; };
struct BlockQ4K { uint16_t d, m; uint8_t scales[12]; uint8_t q[128]; };

/* Scale and minimum `j` of 8, of 6 bits each. */
static inline void q4k_scales(const uint8_t *s, int j, uint8_t *scale, uint8_t *minimum) {
  if (j < 4) {
    *scale = s[j] & 63;
    *minimum = s[j + 4] & 63;
  } else {
    *scale = static_cast<uint8_t>((s[j + 4] & 0xf) | ((s[j - 4] >> 6) << 4));
    *minimum = static_cast<uint8_t>((s[j + 4] >> 4) | ((s[j] >> 6) << 4));
  }
}

static inline bool is_float(int32_t type) { return type == FLX_F32 || type == FLX_F16 || type == FLX_BF16; }
/* Types whose products are computed in integers. */
static inline bool is_integer(int32_t type) { return type == FLX_Q4_0 || type == FLX_Q4_1 || type == FLX_Q8_0 || type == FLX_Q4_K; }
/* Whether a value is scale * q - minimum, with a minimum for each group. */
static inline bool has_minimum(int32_t type) { return type == FLX_Q4_1 || type == FLX_Q4_K; }
static inline int block_values(int32_t type) { return is_float(type) ? 1 : type == FLX_Q4_K ? 256 : 32; }
