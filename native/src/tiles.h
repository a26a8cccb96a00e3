/*
 * Matrix products of tiles (Intel AMX), 16 x 16 in one instruction of 16 cycles: C [rows, 16] += A [rows, k] times B, k up to 32 of bf16 (C in f32) or of signed bytes
 * (C in int32), of which B has those side by side that make up 4 bytes of a row of A: [k / 2][16 columns][2], [k / 4][16 columns][4]. In bf16 a row of C adds, for all
 * of these k, even and odd ones apart by fused multiply-adds, then both sums to what is there (Intel's manual: TDPBF16PS), whatever other rows do. A thread has eight
 * tiles: here four of C, and of A and B two. With FLX_EMULATE_TILES plain C++ does as much, for processors without and for sanitizers; denormals, which
 * tiles take for 0, it keeps.
 */
#pragma once
#include "activations.h"
#include "simd.h"

#if defined(FLX_ISA_TILES)
static constexpr int TILE_BYTES = 64; /* of a row */
/* Tiles by number: C [first or second rows][first or second columns], A [first or second rows], B [first or second columns]. */
enum { TILE_C = 0, TILE_A = 4, TILE_B = 6, TILES = 8 };

/* How large the tiles are, as `ldtilecfg` reads it: tiles of no rows are not there. */
struct alignas(64) TileSizes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  /* A and C of `first` rows, the second of them of `second`; products of `bytes` of k. */
  TileSizes(int64_t first, int64_t second, int64_t bytes) {
    const int64_t each[TILES] = {first, first, second, second, first, second, bytes / 4, bytes / 4};
    for (int tile = 0; tile < TILES; tile++) {
      const bool is_a = tile >= TILE_A && tile < TILE_B;
      rows[tile] = static_cast<uint8_t>(each[tile]);
      row_bytes[tile] = static_cast<uint16_t>(each[tile] == 0 ? 0 : is_a ? bytes : TILE_BYTES);
    }
  }
};

#if defined(FLX_EMULATE_TILES)
struct EmulatedTiles {
  uint8_t rows[TILES];
  uint16_t row_bytes[TILES];
  uint32_t words[TILES][TILE_ROWS][TILE_BYTES / 4];
};
inline thread_local EmulatedTiles emulated_tiles;

static inline void tiles_begin(const TileSizes &sizes) {
  std::memset(emulated_tiles.words, 0, sizeof emulated_tiles.words);
  std::memcpy(emulated_tiles.rows, sizes.rows, sizeof emulated_tiles.rows);
  std::memcpy(emulated_tiles.row_bytes, sizes.row_bytes, sizeof emulated_tiles.row_bytes);
}
static inline void tiles_end() { std::memset(emulated_tiles.rows, 0, TILES); }

/* As the processor does with a tile that was not given. */
template <int TILE> static inline void check_tile() {
  if (emulated_tiles.rows[TILE] == 0) __builtin_trap();
}

template <int TILE> static inline void tile_zero() { check_tile<TILE>(), std::memset(emulated_tiles.words[TILE], 0, sizeof emulated_tiles.words[TILE]); }

template <int TILE> static inline void tile_load(const void *from, int64_t stride) {
  check_tile<TILE>();
  for (int row = 0; row < emulated_tiles.rows[TILE]; row++)
    std::memcpy(emulated_tiles.words[TILE][row], static_cast<const uint8_t *>(from) + row * stride, emulated_tiles.row_bytes[TILE]);
}

template <int TILE> static inline void tile_store(void *to, int64_t stride) {
  check_tile<TILE>();
  for (int row = 0; row < emulated_tiles.rows[TILE]; row++)
    std::memcpy(static_cast<uint8_t *>(to) + row * stride, emulated_tiles.words[TILE][row], emulated_tiles.row_bytes[TILE]);
}

template <int C, int A, int B> static inline void tile_multiply_bytes() {
  auto &words = emulated_tiles.words;
  const auto value = [](uint32_t four, int i) { return static_cast<int8_t>(four >> (8 * i)); };
  for (int row = 0; row < emulated_tiles.rows[C]; row++)
    for (int column = 0; column < TILE_ROWS; column++)
      for (int four = 0; four < emulated_tiles.rows[B]; four++)
        for (int i = 0; i < 4; i++) words[C][row][column] += static_cast<uint32_t>(value(words[A][row][four], i) * value(words[B][four][column], i));
}

template <int C, int A, int B> static inline void tile_multiply_bfloats() {
  auto &words = emulated_tiles.words;
  const auto value = [](uint32_t pair, int i) { return bfloat_to_float(static_cast<uint16_t>(pair >> (16 * i))); };
  for (int row = 0; row < emulated_tiles.rows[C]; row++)
    for (int column = 0; column < TILE_ROWS; column++) {
      float sums[2] = {}, c;
      for (int pair = 0; pair < emulated_tiles.rows[B]; pair++)
        for (int i = 0; i < 2; i++) sums[i] = __builtin_fmaf(value(words[A][row][pair], i), value(words[B][pair][column], i), sums[i]);
      std::memcpy(&c, &words[C][row][column], 4);
      c += sums[0] + sums[1];
      std::memcpy(&words[C][row][column], &c, 4);
    }
}
#else
/* Not by intrinsics, which take no constant of a template and do not tell the compiler what they read. */
static inline void tiles_begin(const TileSizes &sizes) { __asm__ volatile("ldtilecfg %0" ::"m"(sizes)); }
/* With tiles there would be more to save when another thread runs, and the core would not rest as deeply. */
static inline void tiles_end() { __asm__ volatile("tilerelease" ::); }

template <int TILE> static inline void tile_zero() { __asm__ volatile("tilezero %%tmm%c0" ::"i"(TILE)); }
template <int TILE> static inline void tile_load(const void *from, int64_t stride) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(TILE) : "memory");
}
template <int TILE> static inline void tile_store(void *to, int64_t stride) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(TILE) : "memory");
}
template <int C, int A, int B> static inline void tile_multiply_bytes() {
  __asm__ volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}
template <int C, int A, int B> static inline void tile_multiply_bfloats() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
}
#endif

/* Gives the calling thread tiles of these sizes, until `end_tiles`. */
void use_tiles(int64_t first, int64_t second, int64_t bytes);
#endif

/* After the last product of a thread that may be by tiles. */
void end_tiles();
