#include <algorithm>
#include <cstring>

#include "finish.h"
#include "kernels.h"
#include "panel.h"
#include "paths.h"
#include "steps.h"
#include "team.h"
#include "tiles.h"

/*
 * K at a time. While few rows pass by, a panel's piece of bytes (16 KiB) or floats (32 KiB) stays in the first cache. Many rows come from the third cache for
 * every panel, fast only in long runs; then the piece is in the second cache (128 KiB, up to 180 with scales and minima). By signs, all rows of a group of k
 * follow each other, and pieces are short; by tiles short ones are as good.
 */
struct Piece {
  int64_t few_rows;
  int64_t many_rows;
};
static constexpr Piece INTEGER_K = {512, 4096};
static constexpr Piece BFLOAT_K = {512, 2048};
static constexpr Piece FLOAT_K = {256, 1024};
static constexpr int64_t MANY_ROWS = 128;

static int64_t length_of(const Piece &piece, int64_t rows) { return rows < MANY_ROWS ? piece.few_rows : piece.many_rows; }

namespace {
struct alignas(64) PanelMemory {
  /* A piece as the kernels read it; integers need 44 bytes for 32 values. */
  uint8_t piece[INTEGER_K.many_rows * FLX_PANEL / 32 * 44];
  /* Sums of a panel, side by side: rows of y are often a multiple of 4 KiB apart and would share a few lines of the first cache. */
  float c[MOST_ROWS * FLX_PANEL];
  SignTable table;
};
} // namespace

static thread_local PanelMemory memory;

static float *sums_of(int64_t row) { return memory.c + row * FLX_PANEL; }
static void clear_sums(float *c, int64_t rows) { std::memset(c, 0, static_cast<size_t>(rows * FLX_PANEL) * sizeof(float)); }

/* Memory for `k` of a panel: codes and what belongs to them close together. */
static IntegerPanel panel_memory(int64_t k) {
  uint8_t *at = memory.piece;
  const auto take = [&at](int64_t bytes) { return at += bytes, at - bytes; };
  IntegerPanel panel;
  panel.quants = take(k * FLX_PANEL);
  panel.scales = reinterpret_cast<float *>(take(k / GROUP * FLX_PANEL * 4));
  panel.minima = reinterpret_cast<float *>(take(k / GROUP * FLX_PANEL * 4));
  panel.scale_factors = reinterpret_cast<int8_t *>(take(k / 16 * FLX_PANEL));
  panel.minimum_factors = reinterpret_cast<int16_t *>(take(k / GROUP * FLX_PANEL * 2));
  return panel;
}

/* A tile of `count` of k from k0 on: what all blocks of rows have in common, so that for each little is left to do. */
static IntegerTile tile_of(const flx_linear &l, const IntegerPanel &panel, int64_t count) {
  IntegerTile tile{};
  tile.panel = panel;
  tile.groups = count / GROUP;
  tile.type = l.weight.type;
  return tile;
}

/* Points `tile` to `n` rows from `row` on. */
static void set_rows(IntegerTile &tile, const IntegerRows &rows, int64_t k, int64_t k0, int64_t row, int64_t n, bool by_group) {
  const int64_t at = row * k + k0 * n;
  tile.quants = rows.quants + at / GROUP * rows.group_bytes;
  tile.scales = rows.scales + (by_group ? at / GROUP : at / K_BLOCK);
  tile.offsets = rows.offsets + at / GROUP * 2;
  if (by_group) tile.sums = rows.sums + at / GROUP;
  else tile.sum_pairs = rows.sum_pairs + at / GROUP;
}

/* A K block of each panel. With each of them memory is asked for a share of the next block of all. */
static void packed_block(const flx_linear &l, const IntegerFormat &f, IntegerTile tile) {
  const uint8_t *first = tile.weights;
  const int64_t bytes = panel_block_bytes(f), share = bytes / tile.panels;
  tile.ahead_bytes = share / tile.groups;
  for (int64_t panel = 0; panel < tile.panels; panel++) {
    const uint8_t *block = first + panel * tile.panel_bytes;
    unpack_headers(l.weight.type, block, f.values, tile.panel);
    tile.weights = block + header_bytes(f);
    tile.ahead = tile.panels > 1 ? first + bytes + panel * share : tile.weights + PACKED_AHEAD_BYTES;
    tile.c = sums_of(panel * l.m);
    multiply_packed(l.m, tile);
  }
}

/* Few rows, all at once, with `panels` panels by turns: weights are unpacked in registers. */
static void packed_product(const flx_linear &l, int64_t first, int64_t panels) {
  const flx_weight &w = l.weight;
  const IntegerFormat &f = *integer_format(w.type);
  const IntegerRows rows = integer_rows(w.type, l.scratch, l.m, w.k);
  const int64_t most = f.values == GROUP ? INTEGER_K.few_rows : f.values;
  const IntegerPanel part = panel_memory(most);
  clear_sums(sums_of(0), panels * l.m);
  for (int64_t k0 = 0; k0 < w.k; k0 += most) {
    const int64_t count = std::min(most, w.k - k0);
    IntegerTile tile = tile_of(l, part, count);
    tile.weights = panel_in_order(w, first, k0, count);
    tile.weight_bytes = group_stride(f);
    tile.panels = panels;
    tile.panel_bytes = panel_bytes(w, w.k);
    tile.c = sums_of(0);
    set_rows(tile, rows, w.k, k0, 0, l.m, f.activations == GROUP);
    f.values == GROUP ? multiply_packed(l.m, tile) : packed_block(l, f, tile);
  }
}

/*
 * `tile` with the weights of a panel, and what memory is asked for with each of `blocks` blocks of rows: a share of what follows them. Long pieces are read
 * rarely, and the processor's own prefetching follows them.
 */
static void set_weights(IntegerTile &tile, const flx_weight &w, int64_t panel, int64_t k0, int64_t blocks) {
  const IntegerFormat &f = *integer_format(w.type);
  const bool ready = in_kernel_form(w.type);
  const int64_t count = tile.groups * GROUP, bytes = panel_bytes(w, count);
  tile.packed = panel_in_order(w, panel, k0, count);
  tile.weights = ready ? tile.packed + header_bytes(f) : tile.panel.quants;
  tile.weight_bytes = ready ? group_stride(f) : GROUP * FLX_PANEL;
  tile.ahead = tile.packed + bytes;
  tile.ahead_bytes = tile.groups * GROUP > INTEGER_K.few_rows ? 0 : (bytes / blocks + tile.groups) / tile.groups;
}

static void integer_panel(const flx_linear &l, int64_t panel, int64_t from, int64_t to) {
  const flx_weight &w = l.weight;
  const IntegerRows rows = integer_rows(w.type, l.scratch, l.m, w.k);
  const int64_t step = integer_block_rows(w.type, l.m), blocks = (to - from + step - 1) / step;
  const bool signs = by_signs(w.type, l.m), tiles = by_tiles(w.type, l.m);
  const int64_t piece = signs || tiles ? INTEGER_K.few_rows : length_of(INTEGER_K, to - from);
  const IntegerPanel part = panel_memory(piece);
  const bool by_group = integer_format(w.type)->activations == GROUP;
  for (int64_t k0 = 0; k0 < w.k; k0 += piece) {
    IntegerTile tile = tile_of(l, part, std::min(piece, w.k - k0));
    tile.tiles = tiles;
    set_weights(tile, w, panel, k0, blocks);
    tile.table = signs ? &memory.table : nullptr;
    tile.c = sums_of(0);
    for (int64_t row = from; row < to; row += step) {
      const int64_t n = std::min(step, to - row);
      set_rows(tile, rows, w.k, k0, row, n, by_group);
      if (k0 == 0) clear_sums(tile.c, n);
      row == from ? multiply_and_unpack(n, tile) : multiply_integers(n, tile);
      tile.c += n * FLX_PANEL;
      tile.ahead += tile.groups * tile.ahead_bytes;
    }
  }
  end_tiles();
}

namespace {
struct Ahead {
  const uint8_t *from;
  int64_t bytes; /* with each step */
};
} // namespace

/*
 * What one of several blocks of rows asks for, of the `bytes` that follow those at `packed`: the first block reads its weights from memory, and without this the
 * others would leave memory idle. A single block asks for what is near.
 */
static Ahead ahead_of(const uint8_t *packed, int64_t bytes, int64_t block, int64_t blocks, int64_t steps) {
  if (!packed || blocks < 2) return {nullptr, 0};
  const int64_t share = (bytes + blocks - 1) / blocks;
  return {packed + bytes + block * share, (share + steps - 1) / steps};
}

static void bfloat_panel(const flx_linear &l, int64_t panel, int64_t from, int64_t to) {
  const flx_weight &w = l.weight;
  const uint16_t *x = static_cast<const uint16_t *>(l.scratch);
  const int64_t padded = bfloat_row(w.k), step = block_rows(l.m, BFLOAT_ROWS), blocks = (to - from + step - 1) / step;
  const int64_t piece = length_of(BFLOAT_K, to - from);
  for (int64_t k0 = 0; k0 < w.k; k0 += piece) {
    const int64_t count = std::min(piece, w.k - k0);
    const uint8_t *packed = packed_panel(w, panel, k0);
    const uint16_t *weights = reinterpret_cast<const uint16_t *>(packed);
    if (!weights) {
      uint16_t *bfloats = reinterpret_cast<uint16_t *>(memory.piece);
      unpack_bfloat(w, panel, k0, count, bfloats);
      weights = bfloats;
    }
    for (int64_t row = from; row < to; row += step) {
      const int64_t n = std::min(step, l.m - row);
      const Ahead next = ahead_of(packed, panel_bytes(w, count), (row - from) / step, blocks, (count + 1) / 2);
      multiply_bfloats(n, {next.from, next.bytes, x + row * padded + k0 * n, weights, (count + 1) / 2, sums_of(row - from), k0 == 0});
    }
  }
  end_tiles();
}

static void float_panel(const flx_linear &l, int64_t panel, int64_t from, int64_t to) {
  const flx_weight &w = l.weight;
  const float *x = static_cast<const float *>(l.scratch);
  const int64_t step = block_rows(l.m, FLOAT_ROWS), blocks = (to - from + step - 1) / step;
  const int64_t piece = length_of(FLOAT_K, to - from);
  for (int64_t k0 = 0; k0 < w.k; k0 += piece) {
    const int64_t count = std::min(piece, w.k - k0);
    const uint8_t *packed = packed_panel(w, panel, k0);
    /* Widening a piece first pays from the second block of rows on. */
    const void *weights = w.type == FLX_F32 || to - from <= FLOAT_ROWS ? packed : nullptr;
    const int32_t type = weights ? w.type : static_cast<int32_t>(FLX_F32);
    if (!weights) {
      float *floats = reinterpret_cast<float *>(memory.piece);
      unpack_float(w, panel, k0, count, floats);
      weights = floats;
    }
    for (int64_t row = from; row < to; row += step) {
      const int64_t n = std::min(step, l.m - row);
      const Ahead next = ahead_of(packed, panel_bytes(w, count), (row - from) / step, blocks, count);
      multiply_floats(n, {next.from, next.bytes, x + row * w.k + k0 * n, weights, type, count, sums_of(row - from), k0 == 0});
    }
  }
}

/* Panels from `first` on, up to `end`, as many as are multiplied together; how many these were. */
static int64_t run_panels(const flx_linear &l, int64_t first, int64_t end, int64_t from, int64_t to) {
  const int32_t type = l.weight.type;
  const bool packed = is_integer(type) && l.m <= packed_rows(type);
  const int64_t by_turns = std::min({PANELS_BY_TURNS, end - first, packed_panels(l.weight) - first});
  const int64_t panels = packed ? std::max<int64_t>(by_turns, 1) : 1;
  if (packed) packed_product(l, first, panels);
  else if (is_integer(type)) integer_panel(l, first, from, to);
  else if (in_bfloats(type)) bfloat_panel(l, first, from, to);
  else float_panel(l, first, from, to);
  for (int64_t panel = 0; panel < panels; panel++) finish_panel(l, first + panel, sums_of(panel * l.m), from, to);
  return panels;
}

static void prepare_rows(flx_team *team, const flx_linear &l) {
  const int64_t m = l.m, k = l.weight.k, blocks = (m + FLOAT_ROWS - 1) / FLOAT_ROWS, bfloat_blocks = (m + BFLOAT_ROWS - 1) / BFLOAT_ROWS;
  if (is_integer(l.weight.type)) {
    const IntegerRows rows = integer_rows(l.weight.type, l.scratch, m, k);
    parallel(team, rounding_parts(l.weight.type, m, k), [&](int64_t part) { round_rows(l.x, m, k, part, l.weight.type, rows); });
  } else if (in_bfloats(l.weight.type)) {
    parallel(team, bfloat_blocks, [&](int64_t block) { round_bfloats(l.x, m, k, block, static_cast<uint16_t *>(l.scratch)); });
  } else {
    parallel(team, blocks, [&](int64_t block) { gather_rows(l.x, m, k, block, static_cast<float *>(l.scratch)); });
  }
}

/* Rows of a part: all, or nearly equal parts of whole blocks. */
static int64_t part_rows(const flx_linear &l) {
  const int64_t step = is_integer(l.weight.type) ? integer_block_rows(l.weight.type, l.m) : block_rows(l.m, in_bfloats(l.weight.type) ? BFLOAT_ROWS : FLOAT_ROWS);
  const int64_t blocks = (l.m + step - 1) / step, parts = (l.m + MOST_ROWS - 1) / MOST_ROWS;
  return std::min((blocks + parts - 1) / parts, MOST_ROWS / step) * step;
}

/*
 * Panels that a thread takes at once. With few rows the weights come from memory, which is read fastest straight on; yet there are to be so many shares for each
 * thread that none waits long for the others.
 */
static constexpr int64_t MOST_PANELS = 4, SHARES_A_THREAD = 16;

static int64_t panels_together(const flx_team *team, int64_t panels, int64_t rows) {
  if (rows >= MANY_ROWS) return 1;
  return std::clamp<int64_t>(panels / (SHARES_A_THREAD * team_size(team)), 1, MOST_PANELS);
}

void run_linear(flx_team *team, const flx_linear &l) {
  if (l.m == 0 || l.weight.n == 0) return;
  prepare_rows(team, l);
  const int64_t panels = (l.weight.n + FLX_PANEL - 1) / FLX_PANEL;
  const int64_t rows = part_rows(l), parts = (l.m + rows - 1) / rows;
  const int64_t together = panels_together(team, panels, l.m), shares = (panels + together - 1) / together;
  parallel(team, shares * parts, [&](int64_t share) {
    const int64_t from = share / shares * rows, first = share % shares * together;
    const int64_t end = std::min(panels, first + together), to = std::min<int64_t>(l.m, from + rows);
    for (int64_t panel = first; panel < end;) panel += run_panels(l, panel, end, from, to);
  });
}

extern "C" int64_t flx_linear_scratch_bytes(int32_t type, int64_t m, int64_t k) {
  if (is_integer(type)) return integer_rows_bytes(type, m, k);
  return in_bfloats(type) ? bfloat_rows_bytes(m, k) : m * k * 4;
}

extern "C" int32_t flx_exact(int32_t type) { return is_float(type) && !in_bfloats(type); }
