#pragma once
#include <arm_neon.h>

#define FLX_ISA_NEON 1
static constexpr int LANES = 4;
typedef float32x4_t F;
typedef int32x4_t I;

static inline F f_load(const float *p) { return vld1q_f32(p); }
static inline void f_store(float *p, F v) { vst1q_f32(p, v); }
static inline F f_set(float x) { return vdupq_n_f32(x); }
static inline F f_fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
static inline F f_mul(F a, F b) { return vmulq_f32(a, b); }
static inline F f_add(F a, F b) { return vaddq_f32(a, b); }
static inline F f_sub(F a, F b) { return vsubq_f32(a, b); }
/* No number if either is none; x86 gives the second one then. */
static inline F f_max(F a, F b) { return vmaxq_f32(a, b); }
static inline F f_min(F a, F b) { return vminq_f32(a, b); }
static inline F f_from_i(I v) { return vcvtq_f32_s32(v); }
static inline F f_from_half(const uint16_t *p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
/* Rounds to the nearest, ties to even. */
static inline void f_store_half(uint16_t *p, F v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
static inline F f_from_bfloat(const uint16_t *p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
static inline I i_set(int32_t x) { return vdupq_n_s32(x); }
/* Signed bytes, one for each lane. */
static inline I i_from_bytes(const int8_t *p) {
  int32_t four;
  std::memcpy(&four, p, 4);
  return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)))));
}
static inline I i_add(I a, I b) { return vaddq_s32(a, b); }
static inline I i_mul(I a, I b) { return vmulq_s32(a, b); }
/* sum + a[2i] * two[0] + a[2i + 1] * two[1] */
static inline I i_add_pairs(I sum, const int16_t *a, const int16_t *two) {
  const int16x4x2_t pairs = vld2_s16(a);
  return vmlal_n_s16(vmlal_n_s16(sum, pairs.val[0], two[0]), pairs.val[1], two[1]);
}
/* 2^n for whole n from -126 to 127 */
static inline F f_power_of_two(F n) { return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23)); }
static inline F f_round(F x) { return vrndnq_f32(x); }
/* 4 bytes as floats */
static inline uint8x8_t four_bytes(const uint8_t *p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return vcreate_u8(four);
}
static inline F f_from_u8(uint8x8_t bytes) { return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes)))); }
static inline F f_from_bytes(const uint8_t *p) { return f_from_u8(four_bytes(p)); }
/* 4 bits from `shift` on of each word */
static inline F f_from_nibbles(const uint8_t *p, int shift) {
  const uint32x4_t words = vshlq_u32(vreinterpretq_u32_u8(vld1q_u8(p)), vdupq_n_s32(-shift));
  return vcvtq_f32_u32(vandq_u32(words, vdupq_n_u32(15)));
}
