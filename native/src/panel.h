/*
 * Weights in panel order. A panel is FLX_PANEL rows, as many bytes as in the file's order, in pieces of one block of K for all rows:
 *
 *   f32, f16    per k: the values of 32 rows; bf16 with BF16 instructions: per 2 k, both values of 32 rows
 *   blocks      a header, each field for 32 rows: scale (f16), minimum (f16), scales of 6 bits (12 bytes, packed as in the file) or of 8 (16 bytes);
 *               then per 32 k the codes:
 *     8 bits    8 x 32 rows x 4 k of bytes, with their first bit flipped unless `signed_bytes`
 *     4 bits    8 x 16 rows x 4 k of bytes, low nibble row r, high nibble row r + 16
 *     5, 6 bits the same, then for each further bit 8 x 2 x 64 bits: 16 rows x 4 k of the low nibbles, then of the high ones
 */
#pragma once
#include "blocks.h"
#include "paths.h"
#include "simd.h"

/*
 * What the integer kernels read: codes as bytes [k / 4][32][4]; scales and minima [32] of each block. Minima are added, those of K blocks taken away, as
 * in the file. Of K blocks also the factors that scales and minima have within the block: [32] for each `scale_values` of k, and for each 64 of k [32][2].
 */
struct IntegerPanel {
  uint8_t *quants;
  float *scales;
  float *minima;
  int8_t *scale_factors;
  int16_t *minimum_factors;
};

/* Bytes of 32 k of a panel, without the header. */
static inline int64_t group_bytes(const IntegerFormat &f) { return f.bits == 8 ? 1024 : 512 + (f.bits - 4) * 128; }

/* Bytes of the header of a block for 32 rows. */
static inline int64_t header_bytes(const IntegerFormat &f) { return FLX_PANEL * (f.k_scales ? 16 : f.scale_values == 16 ? 18 : f.minimum ? 4 : 2); }
static inline int64_t panel_block_bytes(const IntegerFormat &f) { return f.values / GROUP * group_bytes(f) + header_bytes(f); }
/* From the codes of 32 k to the next ones; the headers of K blocks lie between every eighth. */
static inline int64_t group_stride(const IntegerFormat &f) { return f.values > GROUP ? group_bytes(f) : panel_block_bytes(f); }

/*
 * Asks for bytes that are wanted next, so that they come from memory while others are computed: the processor's own prefetching stops whenever reading
 * does. Panels follow each other, and asking beyond the last one does no harm.
 * They come into cache CACHE.
 */
template <int CACHE = 2> static inline void ask_for(const uint8_t *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(from + i, 0, 4 - CACHE);
}

/* Zero point of the bytes that `unpack_codes` writes. */
int32_t zero_point(int32_t type);
/* Whether those bytes are signed instead, as instruction sets want them that multiply no large unsigned bytes. */
bool signed_quants(int32_t type);

/* Whether codes of 8 bits lie in panels with their sign, as they are multiplied: by AVX-512 alone without, by tiles with it. */
static inline bool signed_bytes(int32_t type) {
#if defined(FLX_ISA_AVX512) && !defined(FLX_ISA_TILES)
  return (void)type, false;
#else
  return type == FLX_Q8_0;
#endif
}

/* The `rows` rows at `from` into panel order, with rows of zeros behind them. */
void pack_panel(const flx_weight &weight, const uint8_t *from, int64_t rows, uint8_t *out);
/* How many of the first panels are in panel order. */
static inline int64_t packed_panels(const flx_weight &weight) { return weight.packed ? weight.n / FLX_PANEL : 0; }
/* Panel `panel` from `k0` on, if it is in panel order; otherwise null. */
const uint8_t *packed_panel(const flx_weight &weight, int64_t panel, int64_t k0);
/* Bytes of `count` of k of a panel. */
int64_t panel_bytes(const flx_weight &weight, int64_t count);
/* `count` of k of any panel in panel order: where they lie, or packed into memory of the thread, which the next call overwrites. */
const uint8_t *panel_in_order(const flx_weight &weight, int64_t panel, int64_t k0, int64_t count);

/* Bring `count` of k (whole blocks) in panel order into the kernels' form: codes, and what belongs to them. */
void unpack_codes(int32_t type, const uint8_t *packed, int64_t count, uint8_t *codes);
/* The same without zero points: signed codes. */
void unpack_signed(int32_t type, const uint8_t *packed, int64_t count, uint8_t *codes);
void unpack_headers(int32_t type, const uint8_t *packed, int64_t count, const IntegerPanel &out);
/* Whether codes in panel order are what the kernels read, group after group with headers between. */
static inline bool in_kernel_form(int32_t type) { return type == FLX_Q8_0; }
/* Panel `panel` in any order as f32 [k][32]. */
void unpack_float(const flx_weight &weight, int64_t panel, int64_t k0, int64_t count, float *out);
/* The same as bf16 [k / 2][32][2]; an odd last k is paired with zeros. */
void unpack_bfloat(const flx_weight &weight, int64_t panel, int64_t k0, int64_t count, uint16_t *out);
/* Row `row` of a weight as f32. */
void unpack_row(const flx_weight &weight, int64_t row, float *out);
