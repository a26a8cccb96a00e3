#include "formats.h"

#include <algorithm>

const std::vector<Format> FORMATS = {
  {FLX_F32, "f32", 1, 4},       {FLX_F16, "f16", 1, 2},       {FLX_BF16, "bf16", 1, 2},     {FLX_Q4_0, "q4_0", 32, 18},
  {FLX_Q4_1, "q4_1", 32, 20},   {FLX_Q5_0, "q5_0", 32, 22},   {FLX_Q5_1, "q5_1", 32, 24},   {FLX_Q8_0, "q8_0", 32, 34},
  {FLX_IQ4_NL, "iq4_nl", 32, 18}, {FLX_Q4_K, "q4_k", 256, 144}, {FLX_Q5_K, "q5_k", 256, 176}, {FLX_Q6_K, "q6_k", 256, 210},
};
const Format FOREIGN = {FOREIGN_TYPE, "foreign", 32, 36};

const Format &format_of(int32_t type) {
  return *std::find_if(FORMATS.begin(), FORMATS.end(), [&](const Format &format) { return format.type == type; });
}

bool is_float(const Format &format) { return format.values == 1; }

double from_half(uint16_t half) {
  const int exponent = (half >> 10) & 31, fraction = half & 1023;
  const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY) : exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
  return half >> 15 ? -magnitude : magnitude;
}

double from_bfloat(uint16_t bfloat) {
  const uint32_t bits = static_cast<uint32_t>(bfloat) << 16;
  float value;
  std::memcpy(&value, &bits, 4);
  return static_cast<double>(value);
}

uint16_t to_bfloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (std::isnan(value)) return 0x7fc0;
  const uint32_t half = 0x8000, rest = bits & 0xffff;
  const bool up = rest > half || (rest == half && (bits & 0x10000));
  return static_cast<uint16_t>((bits >> 16) + (up ? 1 : 0));
}

uint16_t to_half(float value) {
  if (std::isnan(value)) return 0x7e00;
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(static_cast<double>(value));
  if (size >= 65520) return sign | 0x7c00;
  /* The exponent of the last place of what is 2^-14 or more; smaller ones have that of 2^-14. nearbyint takes ties to even. */
  const int place = size < 0x1p-14 ? -24 : std::ilogb(size) - 10;
  const int units = static_cast<int>(std::nearbyint(std::ldexp(size, -place)));
  return static_cast<uint16_t>(sign | (units + (place + 24) * 1024));
}

/* ---- values of blocks ---- */

static double half_at(const uint8_t *p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  return from_half(half);
}

static void decode_float(const Format &f, const uint8_t *p, double *codes) {
  float single;
  uint16_t half;
  std::memcpy(&single, p, f.type == FLX_F32 ? 4 : 0);
  std::memcpy(&half, p, 2);
  *codes = f.type == FLX_F32 ? static_cast<double>(single) : f.type == FLX_F16 ? from_half(half) : from_bfloat(half);
}

/* Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL */
static void decode_nibbles(const Format &f, const uint8_t *p, double *codes, double *minima) {
  static constexpr int IQ4_NL[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const bool has_minimum = f.type == FLX_Q4_1 || f.type == FLX_Q5_1, fifth = f.type == FLX_Q5_0 || f.type == FLX_Q5_1;
  const double d = half_at(p), minimum = has_minimum ? -half_at(p + 2) : 0;
  p += has_minimum ? 4 : 2;
  uint32_t high = 0;
  if (fifth) std::memcpy(&high, p, 4);
  p += fifth ? 4 : 0;
  const int zero = has_minimum || f.type == FLX_IQ4_NL ? 0 : fifth ? 16 : 8;
  for (int j = 0; j < 32; j++) {
    int q = j < 16 ? p[j] & 15 : p[j - 16] >> 4;
    q += (high >> j) % 2 * 16;
    codes[j] = d * (f.type == FLX_IQ4_NL ? IQ4_NL[q] : q - zero);
    minima[j] = minimum;
  }
}

static void decode_q8_0(const uint8_t *p, double *codes) {
  for (int j = 0; j < 32; j++) codes[j] = half_at(p) * static_cast<int8_t>(p[2 + j]);
}

/* Q4_K, Q5_K: 8 groups of 32, two of them in the halves of 32 bytes; 6 bits of each scale and minimum. */
static void decode_k(const Format &f, const uint8_t *p, double *codes, double *minima) {
  const uint8_t *s = p + 4, *high = p + 16, *q = f.type == FLX_Q5_K ? p + 48 : p + 16;
  for (int j = 0; j < 8; j++) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6 << 4);
    const int minimum = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | (s[j] >> 6 << 4);
    for (int l = 0; l < 32; l++) {
      int code = j % 2 == 0 ? q[l] & 15 : q[l] >> 4;
      if (f.type == FLX_Q5_K && (high[l] & (1 << j))) code += 16;
      *codes++ = half_at(p) * scale * code;
      *minima++ = half_at(p + 2) * minimum;
    }
    if (j % 2 == 1) q += 32;
  }
}

static void decode_q6_k(const uint8_t *p, double *codes) {
  const double d = half_at(p + 208);
  for (int half = 0; half < 2; half++, codes += 128) {
    const uint8_t *low = p + half * 64, *high = p + 128 + half * 32, *scales = p + 192 + half * 8;
    for (int l = 0; l < 32; l++)
      for (int part = 0; part < 4; part++) {
        const int nibble = part < 2 ? low[l + 32 * part] & 15 : low[l + 32 * (part - 2)] >> 4;
        const int code = (nibble | ((high[l] >> (2 * part)) & 3) << 4) - 32;
        codes[part * 32 + l] = d * static_cast<int8_t>(scales[part * 2 + l / 16]) * code;
      }
  }
}

static void widen_foreign(const void *row, float *values, int64_t count) {
  const uint8_t *p = static_cast<const uint8_t *>(row);
  for (int64_t i = 0; i < count; i++) {
    float scale;
    std::memcpy(&scale, p + i / 32 * 36, 4);
    values[i] = scale * static_cast<float>(static_cast<int8_t>(p[i / 32 * 36 + 4 + i % 32]));
  }
}

static void decode_block(const Format &f, const uint8_t *p, double *codes, double *minima) {
  std::fill(minima, minima + f.values, 0);
  switch (f.type) {
    case FLX_F32:
    case FLX_F16:
    case FLX_BF16: return decode_float(f, p, codes);
    case FLX_Q8_0: return decode_q8_0(p, codes);
    case FLX_Q4_K:
    case FLX_Q5_K: return decode_k(f, p, codes, minima);
    case FLX_Q6_K: return decode_q6_k(p, codes);
    case FOREIGN_TYPE: break;
    default: return decode_nibbles(f, p, codes, minima);
  }
  float values[32];
  widen_foreign(p, values, 32);
  std::copy(values, values + 32, codes);
}

/* ---- random blocks ---- */

static uint16_t random_half(Random &random, Scales scales) {
  static constexpr uint16_t EXTREMES[] = {0, 0x8000, 1, 0x8001, 0x03ff, 0x0400, 0x3c00, 0x7bff, 0xfbff};
  if (scales == Scales::EXTREME) return EXTREMES[random.below(9)];
  return to_half(random.between(0.01, 0.1) * (random.below(2) ? 1 : -1));
}

static void random_float(const Format &f, Random &random, Scales scales, uint8_t *p) {
  /* Products with activations up to 1000 stay below the largest float; some are below the smallest. */
  static constexpr float EXTREMES[] = {0, -0.f, 1e-45f, -1e-39f, 1.2e-38f, 1, -1e30f, 1e30f};
  const float value = scales == Scales::EXTREME ? EXTREMES[random.below(8)] : random.between(-1, 1);
  const uint16_t half = f.type == FLX_BF16 ? to_bfloat(value) : scales == Scales::EXTREME ? random_half(random, scales) : to_half(value);
  if (f.type == FLX_F32) std::memcpy(p, &value, 4);
  else std::memcpy(p, &half, 2);
}

/* -128 has no opposite in 8 bits. Files have none, or here and there; so one block in 100 has many. */
static void lower_codes(Random &random, uint8_t *codes) {
  const bool lowest = random.below(100) == 0;
  for (int i = 0; i < 32; i++)
    if (lowest ? random.below(4) == 0 : codes[i] == 0x80) codes[i] = lowest ? 0x80 : 0x81;
}

static void random_block(const Format &f, Random &random, Scales scales, uint8_t *p) {
  if (is_float(f)) return random_float(f, random, scales, p);
  for (int i = 0; i < f.bytes; i++) p[i] = static_cast<uint8_t>(random.bits());
  if (f.type == FLX_Q8_0) lower_codes(random, p + 2);
  if (f.type == FOREIGN_TYPE) {
    const float scale = random.between(0.001, 0.01);
    std::memcpy(p, &scale, 4);
    return;
  }
  const bool two = f.type == FLX_Q4_1 || f.type == FLX_Q5_1 || f.type == FLX_Q4_K || f.type == FLX_Q5_K;
  for (int i = 0; i < (two ? 2 : 1); i++) {
    const uint16_t half = random_half(random, scales);
    std::memcpy(p + (f.type == FLX_Q6_K ? 208 : 2 * i), &half, 2);
  }
}

Weight random_weight(const Test &test, Random &random, const Format &f, int64_t n, int64_t k, bool packed, Scales scales) {
  const int64_t row_bytes = k / f.values * f.bytes;
  Weight w{f, Array<uint8_t>(n * row_bytes), {}, std::vector<double>(static_cast<size_t>(n * k)), std::vector<double>(static_cast<size_t>(n * k))};
  for (int64_t i = 0; i < n * k / f.values; i++) {
    random_block(f, random, scales, w.data.data() + i * f.bytes);
    decode_block(f, w.data.data() + i * f.bytes, &w.codes[static_cast<size_t>(i * f.values)], &w.minima[static_cast<size_t>(i * f.values)]);
  }
  w.value.data = w.data.data();
  w.value.row_bytes = row_bytes;
  w.value.type = f.type;
  w.value.n = static_cast<int32_t>(n);
  w.value.k = static_cast<int32_t>(k);
  w.value.to_float = f.type == FOREIGN_TYPE ? widen_foreign : nullptr;
  if (packed && test.lib.packs(f.type, k)) {
    test.lib.pack(test.teams[1], &w.value);
    w.value.packed = 1;
  }
  return w;
}
