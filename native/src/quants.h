/* How vectors of codes are read from a panel in panel order: step `s` of a group of 32 k is 4 k of 32 rows, in two vectors of 16 rows. AVX-512; of AVX2 only what is used twice. */
#pragma once
#include "panel.h"
#include "simd.h"

#if defined(FLX_ISA_AVX512)
/* Bytes as the kernel multiplies them. */
struct Bytes {
  static void load(const uint8_t *group, int step, I *out) {
    for (int v = 0; v < 2; v++) out[v] = _mm512_loadu_si512(group + step * 128 + v * 64);
  }
};

/* Codes of Q8_0 as they lie in a panel, by their first bit without a sign. */
struct PanelBytes {
  static void load(const uint8_t *group, int step, I *out) {
    Bytes::load(group, step, out);
    if (!signed_bytes(FLX_Q8_0)) return;
    for (int v = 0; v < 2; v++) out[v] = _mm512_xor_si512(out[v], _mm512_set1_epi8(-128));
  }
};

/* Nibbles, and planes of further bits. */
template <int PLANES> struct Nibbles {
  static void load(const uint8_t *group, int step, I *out) {
    const I both = _mm512_loadu_si512(group + step * 64), low = _mm512_set1_epi8(15);
    out[0] = _mm512_and_si512(both, low);
    out[1] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    for (int plane = 0; plane < PLANES; plane++) {
      uint64_t bits[2];
      std::memcpy(bits, group + 512 + plane * 128 + step * 16, 16);
      const I one = _mm512_set1_epi8(static_cast<char>(16 << plane));
      for (int v = 0; v < 2; v++) out[v] = _mm512_mask_add_epi8(out[v], bits[v], out[v], one);
    }
  }
};

/* Nibbles that name one of 16 values. */
struct Looked {
  static void load(const uint8_t *group, int step, I *out) {
    __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i *>(IQ4_NL_VALUES));
    values = _mm_xor_si128(values, _mm_set1_epi8(static_cast<char>(0x80)));
    Nibbles<0>::load(group, step, out);
    for (int v = 0; v < 2; v++) out[v] = _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), out[v]);
  }
};

/* Calls work(form) with the form of a type. */
template <class Work> static inline void with_form(int32_t type, const Work &work) {
  if (type == FLX_Q8_0) return work(PanelBytes{});
  if (type == FLX_IQ4_NL) return work(Looked{});
  switch (integer_format(type)->bits) {
    case 4: return work(Nibbles<0>{});
    case 5: return work(Nibbles<1>{});
    default: return work(Nibbles<2>{});
  }
}
#elif defined(__AVX2__)
/* `value` in each byte whose bit is set, of 32. */
static inline I where_set(const uint8_t *bits, uint8_t value) {
  const I places = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const I masks = _mm256_set1_epi64x(static_cast<int64_t>(0x8040201008040201));
  const I set = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_shuffle_epi8(load_four(bits), places), masks), masks);
  return _mm256_and_si256(set, _mm256_set1_epi8(static_cast<char>(value)));
}

/* What codes of IQ4_NL stand for. */
static inline I look_up(I codes) {
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i *>(IQ4_NL_VALUES));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), codes);
}
#endif
