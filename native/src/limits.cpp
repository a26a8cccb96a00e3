/* What this processor can do at best: the bounds that speeds are compared with. */
#include <atomic>

#include "panel.h"
#include "simd.h"
#include "steps.h"
#include "team.h"
#include "tiles.h"

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

/* Uses the sums, so that they are computed. */
static void keep_sums(const F *sums) {
  F total = sums[0];
  for (int i = 1; i < SUMS; i++) total = f_add(total, sums[i]);
  sink = f_sum(total);
}

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
  keep_sums(sums);
  return rounds * SUMS * LANES * 2;
}

/* The widest product of bytes that this instruction set has, and its operations for each lane. */
#if defined(FLX_ISA_AVX512)
static constexpr int INTEGER_OPERATIONS = 8;
static I add_products(I sum, I bytes) { return _mm512_dpbusd_epi32(sum, bytes, bytes); }
#elif defined(__AVX2__)
static constexpr int INTEGER_OPERATIONS = 8;
static I add_products(I sum, I bytes) { return _mm256_add_epi16(sum, _mm256_maddubs_epi16(bytes, bytes)); }
#elif defined(__ARM_FEATURE_MATMUL_INT8) && defined(FLX_ISA_NEON)
static constexpr int INTEGER_OPERATIONS = 16;
static I add_products(I sum, I bytes) { return vmmlaq_s32(sum, vreinterpretq_s8_s32(bytes), vreinterpretq_s8_s32(bytes)); }
#elif defined(FLX_ISA_NEON)
static constexpr int INTEGER_OPERATIONS = 8;
static I add_products(I sum, I bytes) { return vdotq_s32(sum, vreinterpretq_s8_s32(bytes), vreinterpretq_s8_s32(bytes)); }
#else
static constexpr int INTEGER_OPERATIONS = 0;
#endif

static int64_t integer_operations(int64_t rounds) {
#if defined(__AVX2__) || defined(FLX_ISA_NEON)
  I sums[SUMS];
  for (int i = 0; i < SUMS; i++) sums[i] = i_set(i);
  I bytes = i_set(0x01010101);
  for (int64_t round = 0; round < rounds; round++) {
#pragma GCC unroll 12
    for (int i = 0; i < SUMS; i++) sums[i] = add_products(sums[i], bytes);
    KEEP(bytes);
  }
  float total = 0;
  for (int i = 0; i < SUMS; i++) {
    float lanes[LANES];
    f_store(lanes, f_from_i(sums[i]));
    total += lanes[0];
  }
  sink = total;
  return rounds * SUMS * LANES * INTEGER_OPERATIONS;
#else
  return float_operations(rounds);
#endif
}

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
  keep_sums(sums);
  return rounds * SUMS * LANES * 4;
}
#else
static int64_t bfloat_operations(int64_t rounds) { return float_operations(rounds); }
#endif

#if defined(FLX_ISA_TILES)
/* multiply() adds to all four tiles of C, which do not depend on each other, products of `values` of k. */
template <class Multiply> static int64_t tile_operations(int64_t rounds, int64_t values, const Multiply &multiply) {
  alignas(64) static constexpr uint8_t ZEROS[TILE_ROWS][TILE_BYTES] = {};
  use_tiles(TILE_ROWS, TILE_ROWS, TILE_BYTES);
  tile_zero<TILE_C>(), tile_zero<TILE_C + 1>(), tile_zero<TILE_C + 2>(), tile_zero<TILE_C + 3>();
  tile_load<TILE_A>(ZEROS, TILE_BYTES), tile_load<TILE_A + 1>(ZEROS, TILE_BYTES);
  tile_load<TILE_B>(ZEROS, TILE_BYTES), tile_load<TILE_B + 1>(ZEROS, TILE_BYTES);
  for (int64_t round = 0; round < rounds; round++) multiply();
  end_tiles();
  return rounds * 4 * TILE_ROWS * TILE_ROWS * values * 2;
}

static int64_t byte_tile_operations(int64_t rounds) {
  return tile_operations(rounds, TILE_BYTES, [] {
    tile_multiply_bytes<TILE_C, TILE_A, TILE_B>(), tile_multiply_bytes<TILE_C + 1, TILE_A, TILE_B + 1>();
    tile_multiply_bytes<TILE_C + 2, TILE_A + 1, TILE_B>(), tile_multiply_bytes<TILE_C + 3, TILE_A + 1, TILE_B + 1>();
  });
}

static int64_t bfloat_tile_operations(int64_t rounds) {
  return tile_operations(rounds, TILE_BYTES / 2, [] {
    tile_multiply_bfloats<TILE_C, TILE_A, TILE_B>(), tile_multiply_bfloats<TILE_C + 1, TILE_A, TILE_B + 1>();
    tile_multiply_bfloats<TILE_C + 2, TILE_A + 1, TILE_B>(), tile_multiply_bfloats<TILE_C + 3, TILE_A + 1, TILE_B + 1>();
  });
}
#else
static int64_t byte_tile_operations(int64_t rounds) { return integer_operations(rounds); }
static int64_t bfloat_tile_operations(int64_t rounds) { return bfloat_operations(rounds); }
#endif

static int64_t operations_of(int32_t kind, int64_t rounds) {
  switch (kind) {
    case 1: return integer_operations(rounds);
    case 2: return bfloat_operations(rounds);
    case 3: return byte_tile_operations(rounds);
    case 4: return bfloat_tile_operations(rounds);
    default: return float_operations(rounds);
  }
}

extern "C" int64_t flx_operations(flx_team *team, int32_t kind, int32_t threads, int64_t rounds) {
  std::atomic<int64_t> operations{0};
  parallel(team, threads, [&](int64_t) { operations += operations_of(kind, rounds); });
  return operations;
}

/* Places that are read by turns, and how far before: processors prefetch within pages, and more of these are more requests under way. */
static constexpr int64_t PLACES = 4, READ_AHEAD_BYTES = 1024;

extern "C" void flx_read(flx_team *team, const void *memory, int64_t bytes) {
  constexpr int64_t TILE = (1 << 20) / 4, PLACE = TILE / PLACES, STEP = 64; /* floats */
  const float *values = static_cast<const float *>(memory);
  parallel(team, bytes / 4 / TILE, [&](int64_t tile) {
    const float *from = values + tile * TILE;
    F sums[4] = {f_set(0), f_set(0), f_set(0), f_set(0)};
    for (int64_t i = 0; i < PLACE; i += STEP)
      for (const float *place = from + i; place < from + TILE; place += PLACE) {
        ask_for<1>(reinterpret_cast<const uint8_t *>(place) + READ_AHEAD_BYTES, STEP * 4);
        for (int64_t j = 0; j < STEP / LANES; j++) sums[j % 4] = f_add(sums[j % 4], f_load(place + j * LANES));
      }
    float lanes[LANES];
    f_store(lanes, f_add(f_add(sums[0], sums[1]), f_add(sums[2], sums[3])));
    sink = lanes[0];
  });
}
