/* What this processor can do at best: the bounds that speeds are compared with. */
#include <atomic>

#include "simd.h"
#include "steps.h"
#include "team.h"

/* Independent sums: more than latency times throughput of any processor, few enough for the registers. */
static constexpr int SUMS = 12;

static volatile float sink;

/* Makes the compiler believe that a vector changes, or it would compute the loop beforehand. */
#if defined(FLX_ISA_AVX512)
#define KEEP(vector) __asm__ volatile("" : "+v"(vector))
#elif defined(__x86_64__)
#define KEEP(vector) __asm__ volatile("" : "+x"(vector))
#else
#define KEEP(vector) __asm__ volatile("" : "+w"(vector))
#endif

static int64_t float_operations(int64_t rounds) {
  F sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = f_set(static_cast<float>(i));
  const F factor = f_set(0.999f);
  F term = f_set(0.5f);
  for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = f_fma(sums[i], factor, term);
    KEEP(term);
  }
  F total = sums[0];
  for (int i = 1; i < SUMS; i++) total = f_add(total, sums[i]);
  float lanes[LANES];
  f_store(lanes, total);
  sink = lanes[0];
  return rounds * SUMS * LANES * 2;
}

#if defined(__x86_64__) && (defined(FLX_ISA_AVX512) || defined(__AVX2__))
static int64_t integer_operations(int64_t rounds) {
  I sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = i_set(i);
  I bytes = i_set(0x01010101);
  for (int64_t round = 0; round < rounds; round++) {
#if defined(FLX_ISA_AVX512)
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = _mm512_dpbusd_epi32(sums[i], bytes, bytes);
#else
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = _mm256_add_epi16(sums[i], _mm256_maddubs_epi16(bytes, bytes));
#endif
    KEEP(bytes);
  }
  float total = 0;
  for (int i = 0; i < SUMS; i++) {
    float lanes[LANES];
    f_store(lanes, f_from_i(sums[i]));
    total += lanes[0];
  }
  sink = total;
  return rounds * SUMS * LANES * 8;
}
#else
static int64_t integer_operations(int64_t rounds) { return float_operations(rounds); }
#endif

#if defined(__AVX512BF16__)
static int64_t bfloat_operations(int64_t rounds) {
  F sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = f_set(0);
  I pairs = i_set(0x3c233c23);
  for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)pairs, (__m512bh)pairs);
    KEEP(pairs);
  }
  F total = sums[0];
  for (int i = 1; i < SUMS; i++) total = f_add(total, sums[i]);
  float lanes[LANES];
  f_store(lanes, total);
  sink = lanes[0];
  return rounds * SUMS * LANES * 4;
}
#else
static int64_t bfloat_operations(int64_t rounds) { return float_operations(rounds); }
#endif

static int64_t operations_of(int32_t kind, int64_t rounds) {
  switch (kind) {
    case 1: return integer_operations(rounds);
    case 2: return bfloat_operations(rounds);
    default: return float_operations(rounds);
  }
}

extern "C" int64_t flx_operations(flx_team *team, int32_t kind, int32_t threads, int64_t rounds) {
  std::atomic<int64_t> operations{0};
  parallel(team, threads, [&](int64_t) { operations += operations_of(kind, rounds); });
  return operations;
}

extern "C" void flx_read(flx_team *team, const void *memory, int64_t bytes) {
  constexpr int64_t TILE = 1 << 20;
  const float *values = static_cast<const float *>(memory);
  parallel(team, bytes / TILE, [&](int64_t tile) {
    const float *from = values + tile * (TILE / 4);
    F sums[4] = {f_set(0), f_set(0), f_set(0), f_set(0)};
    for (int64_t i = 0; i < TILE / 4; i += 4 * LANES)
      for (int j = 0; j < 4; j++) sums[j] = f_add(sums[j], f_load(from + i + j * LANES));
    float lanes[LANES];
    f_store(lanes, f_add(f_add(sums[0], sums[1]), f_add(sums[2], sums[3])));
    sink = lanes[0];
  });
}
