/* Blocks of quantised weights as GGUF files have them. Values and formulas: ggml-common.h and ggml-quants.c of llama.cpp. */
#pragma once
#include <cstdint>
#include <cstring>

#include "../flexllmgen.h"

/* Values that products in integers are summed over. */
static constexpr int GROUP = 32;
/* Values of a K block. */
static constexpr int K_BLOCK = 256;

struct BlockQ40 { uint16_t d; uint8_t q[16]; };
struct BlockQ41 { uint16_t d, m; uint8_t q[16]; };
struct BlockQ50 { uint16_t d; uint8_t high[4]; uint8_t q[16]; };
struct BlockQ51 { uint16_t d, m; uint8_t high[4]; uint8_t q[16]; };
struct BlockQ80 { uint16_t d; int8_t q[32]; };
struct BlockQ4K { uint16_t d, m; uint8_t scales[12]; uint8_t q[128]; };
struct BlockQ5K { uint16_t d, m; uint8_t scales[12]; uint8_t high[32]; uint8_t q[128]; };
struct BlockQ6K { uint8_t q[128]; uint8_t high[64]; int8_t scales[16]; uint16_t d; };

/* What the 16 codes of IQ4_NL stand for. */
static constexpr int8_t IQ4_NL_VALUES[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 32 values from `q` on: the low halves of 16 bytes, then their high ones. */
static inline void nibbles_of(const uint8_t *q, uint8_t *codes) {
  for (int i = 0; i < 16; i += 8) {
    uint64_t bytes;
    std::memcpy(&bytes, q + i, 8);
    const uint64_t low = bytes & 0x0f0f0f0f0f0f0f0fu, high = bytes >> 4 & 0x0f0f0f0f0f0f0f0fu;
    std::memcpy(codes + i, &low, 8);
    std::memcpy(codes + i + 16, &high, 8);
  }
}
static inline void add_fifth_bits(const uint8_t *high, uint8_t *codes) {
  /* 4 bits as the lowest of 4 bytes: the product has each of them at all four. */
  for (int i = 0; i < GROUP; i += 4) {
    const uint32_t bits = (high[i / 8] >> (i % 8)) & 15u;
    uint32_t four;
    std::memcpy(&four, codes + i, 4);
    four |= ((bits * 0x00204081u) & 0x01010101u) << 4;
    std::memcpy(codes + i, &four, 4);
  }
}
/* The nibbles of K blocks: 32 bytes hold 64 values, the first 32 in their low halves. */
static inline void k_nibbles_of(const uint8_t *q, int group, uint8_t *codes) {
  const uint8_t *from = q + group / 2 * GROUP;
  const int shift = group % 2 * 4;
  for (int i = 0; i < GROUP; i++) codes[i] = (from[i] >> shift) & 15;
}

/* The codes of 32 values of a block, without sign: what scale and zero point make weights of. */
static inline void codes_of(const BlockQ40 &b, int, uint8_t *codes) { nibbles_of(b.q, codes); }
static inline void codes_of(const BlockQ41 &b, int, uint8_t *codes) { nibbles_of(b.q, codes); }
static inline void codes_of(const BlockQ50 &b, int, uint8_t *codes) { nibbles_of(b.q, codes), add_fifth_bits(b.high, codes); }
static inline void codes_of(const BlockQ51 &b, int, uint8_t *codes) { nibbles_of(b.q, codes), add_fifth_bits(b.high, codes); }
static inline void codes_of(const BlockQ80 &b, int, uint8_t *codes) { std::memcpy(codes, b.q, GROUP); }
static inline void codes_of(const BlockQ4K &b, int group, uint8_t *codes) { k_nibbles_of(b.q, group, codes); }
static inline void codes_of(const BlockQ5K &b, int group, uint8_t *codes) {
  k_nibbles_of(b.q, group, codes);
  for (int i = 0; i < GROUP; i++) codes[i] = static_cast<uint8_t>(codes[i] | ((b.high[i] >> group) & 1) << 4);
}
static inline void codes_of(const BlockQ6K &b, int group, uint8_t *codes) {
  const int part = group % 4;
  const uint8_t *low = b.q + group / 4 * 64 + part % 2 * GROUP, *high = b.high + group / 4 * GROUP;
  for (int i = 0; i < GROUP; i++) codes[i] = static_cast<uint8_t>(((low[i] >> (part / 2 * 4)) & 15) | ((high[i] >> (2 * part)) & 3) << 4);
}

/* How a type's values lie in panels and become weights: scale * (code - zero), and a minimum. */
struct IntegerFormat {
  int values;       /* of a block */
  int bits;         /* of a code: 4 and up to 2 planes of one bit, or 8 */
  int scale_values; /* that share a scale: 32 or 16 */
  int zero;         /* 8 bits: of the bytes with their first bit flipped, which makes them unsigned */
  bool minimum;
  bool k_scales;    /* scales of 6 bits below those of the block */
  int activations;  /* values of an activation that share a scale: 32, or 256 for K blocks, as in llama.cpp */
};

/* Null for types whose products are not computed in integers. */
static inline const IntegerFormat *integer_format(int32_t type) {
  static constexpr IntegerFormat Q4_0{32, 4, 32, 8, false, false, 32}, Q4_1{32, 4, 32, 0, true, false, 32};
  static constexpr IntegerFormat Q5_0{32, 5, 32, 16, false, false, 32}, Q5_1{32, 5, 32, 0, true, false, 32};
  static constexpr IntegerFormat Q8_0{32, 8, 32, 128, false, false, 32}, IQ4_NL{32, 4, 32, 128, false, false, 32};
  static constexpr IntegerFormat Q4_K{256, 4, 32, 0, true, true, 256}, Q5_K{256, 5, 32, 0, true, true, 256}, Q6_K{256, 6, 16, 32, false, false, 256};
  switch (type) {
    case FLX_Q4_0: return &Q4_0;
    case FLX_Q4_1: return &Q4_1;
    case FLX_Q5_0: return &Q5_0;
    case FLX_Q5_1: return &Q5_1;
    case FLX_Q8_0: return &Q8_0;
    case FLX_Q4_K: return &Q4_K;
    case FLX_Q5_K: return &Q5_K;
    case FLX_Q6_K: return &Q6_K;
    case FLX_IQ4_NL: return &IQ4_NL;
    default: return nullptr;
  }
}

static inline bool is_float(int32_t type) { return type == FLX_F32 || type == FLX_F16 || type == FLX_BF16; }
static inline bool is_integer(int32_t type) { return integer_format(type) != nullptr; }
