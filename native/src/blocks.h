/* Blocks of quantised weights as GGUF files have them. Values and formulas: ggml-common.h and ggml-quants.c of llama.cpp. */
#pragma once
#include <cstdint>
#include <cstring>

#include "../flexllmgen.h"

/* Values that products in integers are summed over. */
static constexpr int GROUP = 32;

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

/* The code of value i of a block, without sign: what a scale and a zero point make a weight of. */
template <class Block> static inline int nibble_of(const Block &b, int i) { return i < 16 ? b.q[i] & 15 : b.q[i - 16] >> 4; }
static inline int fifth_bit(const uint8_t *high, int i) { return ((high[i / 8] >> (i % 8)) & 1) << 4; }
/* The nibbles of K blocks: 32 bytes hold 64 values, the first 32 in their low halves. */
static inline int k_nibble(const uint8_t *q, int i) { return (q[i / 64 * 32 + i % 32] >> (i % 64 < 32 ? 0 : 4)) & 15; }

static inline int code_of(const BlockQ40 &b, int i) { return nibble_of(b, i); }
static inline int code_of(const BlockQ41 &b, int i) { return nibble_of(b, i); }
static inline int code_of(const BlockQ50 &b, int i) { return nibble_of(b, i) | fifth_bit(b.high, i); }
static inline int code_of(const BlockQ51 &b, int i) { return nibble_of(b, i) | fifth_bit(b.high, i); }
static inline int code_of(const BlockQ80 &b, int i) { return static_cast<uint8_t>(b.q[i]); }
static inline int code_of(const BlockQ4K &b, int i) { return k_nibble(b.q, i); }
static inline int code_of(const BlockQ5K &b, int i) { return k_nibble(b.q, i) | (((b.high[i % 32] >> (i / 32)) & 1) << 4); }
static inline int code_of(const BlockQ6K &b, int i) {
  const int part = i % 128 / 32, l = i % 32;
  const int low = b.q[i / 128 * 64 + part % 2 * 32 + l] >> (part < 2 ? 0 : 4);
  return (low & 15) | (((b.high[i / 128 * 32 + l] >> (2 * part)) & 3) << 4);
}

/* How a type's values lie in panels and become weights: scale * (code - zero) - minimum. */
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
