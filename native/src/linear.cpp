#include <algorithm>
#include <cstring>

#include "activation.h"
#include "kernels.h"
#include "panel.h"
#include "steps.h"
#include "team.h"

/* K at a time: a panel's piece of bytes (16 KiB) or floats (32 KiB) stays in the first cache while all rows pass by. */
static constexpr int64_t INTEGER_K = 512;
static constexpr int64_t FLOAT_K = 256;
/* Rows at a time: their piece of INTEGER_K stays in the second cache. */
static constexpr int64_t MOST_ROWS = 504;
/* Panels of a tile; small enough that the last tiles end together. */
static constexpr int64_t TILE_PANELS = 2;

namespace {
struct alignas(64) PanelMemory {
  union {
    struct {
      uint8_t quants[INTEGER_K * FLX_PANEL];
      float scales[INTEGER_K / GROUP * FLX_PANEL];
      float minima[INTEGER_K / GROUP * FLX_PANEL];
    } integer;
    float floats[FLOAT_K * FLX_PANEL];
  };
  /* Of the last panel, if it has less than 32 columns. */
  float c[MOST_ROWS * FLX_PANEL];
};
} // namespace

static thread_local PanelMemory memory;

/* Where a panel's products go, [rows, ldc] */
struct Target {
  float *c;
  int64_t ldc;
};

static bool by_integers(const flx_weight &w) { return is_integer(w.type) && w.k % GROUP == 0; }

static void integer_panel(const flx_linear &l, int64_t panel, int64_t from, int64_t to, const Target &target) {
  const flx_weight &w = l.weight;
  const IntegerRows rows = integer_rows(l.scratch, l.m, w.k);
  const int64_t groups = w.k / GROUP;
  auto &part = memory.integer;
  for (int64_t k0 = 0; k0 < w.k; k0 += INTEGER_K) {
    const int64_t count = std::min(INTEGER_K, w.k - k0);
    unpack_integer(w, panel, k0, count, {part.quants, part.scales, part.minima});
    for (int64_t row = from; row < to; row += INTEGER_ROWS) {
      const int64_t n = std::min<int64_t>(INTEGER_ROWS, l.m - row);
      const int64_t at = row * groups + k0 / GROUP * n;
      multiply_integers(n, {rows.quants + row * w.k + k0 * n, rows.scales + at, rows.offsets + at, rows.sums + at, part.quants, part.scales,
                            has_minimum(w.type) ? part.minima : nullptr, count / GROUP, target.c + (row - from) * target.ldc, target.ldc, k0 == 0,
                            signed_quants(w.type)});
    }
  }
}

static void float_panel(const flx_linear &l, int64_t panel, int64_t from, int64_t to, const Target &target) {
  const flx_weight &w = l.weight;
  const float *x = static_cast<const float *>(l.scratch);
  for (int64_t k0 = 0; k0 < w.k; k0 += FLOAT_K) {
    const int64_t count = std::min(FLOAT_K, w.k - k0);
    /* Widening a piece first pays from the second block of rows on. */
    const void *weights = w.type == FLX_F32 || to - from <= FLOAT_ROWS ? packed_panel(w, panel, k0) : nullptr;
    const int32_t type = weights ? w.type : static_cast<int32_t>(FLX_F32);
    if (!weights) {
      unpack_float(w, panel, k0, count, memory.floats);
      weights = memory.floats;
    }
    for (int64_t row = from; row < to; row += FLOAT_ROWS) {
      const int64_t n = std::min<int64_t>(FLOAT_ROWS, l.m - row);
      multiply_floats(n, {x + row * w.k + k0 * n, weights, type, count, target.c + (row - from) * target.ldc, target.ldc, k0 == 0});
    }
  }
}

/* Bias, activation and residual of one panel, while it is in the cache. */
static void finish_panel(const flx_linear &l, int64_t column, int64_t columns, int64_t from, int64_t to, const Target &target) {
  for (int64_t row = from; row < to; row++) {
    float *c = target.c + (row - from) * target.ldc;
    if (l.bias)
      for (int64_t i = 0; i < columns; i++) c[i] += l.bias[column + i];
    activate(c, columns, l.activation);
    float *y = l.y + row * l.ldy + column;
    if (l.residual)
      for (int64_t i = 0; i < columns; i++) y[i] = c[i] + l.residual[row * l.ldy + column + i];
    else if (y != c) std::memcpy(y, c, static_cast<size_t>(columns) * 4);
  }
}

static void run_panel(const flx_linear &l, int64_t panel, int64_t from, int64_t to) {
  const int64_t column = panel * FLX_PANEL;
  const int64_t columns = std::min<int64_t>(FLX_PANEL, l.weight.n - column);
  /* The residual may lie where the result goes, so sums cannot. */
  const bool direct = columns == FLX_PANEL && !l.residual;
  const Target target = direct ? Target{l.y + from * l.ldy + column, l.ldy} : Target{memory.c, FLX_PANEL};
  if (by_integers(l.weight)) integer_panel(l, panel, from, to, target);
  else float_panel(l, panel, from, to, target);
  finish_panel(l, column, columns, from, to, target);
}

static void prepare_rows(flx_team *team, const flx_linear &l) {
  const int64_t k = l.weight.k;
  if (by_integers(l.weight)) {
    const IntegerRows rows = integer_rows(l.scratch, l.m, k);
    const int32_t zero = zero_point(l.weight.type);
    parallel(team, (l.m + INTEGER_ROWS - 1) / INTEGER_ROWS, [&](int64_t block) { round_rows(l.x, l.m, k, block, zero, rows); });
  } else {
    float *x = static_cast<float *>(l.scratch);
    parallel(team, (l.m + FLOAT_ROWS - 1) / FLOAT_ROWS, [&](int64_t block) { gather_rows(l.x, l.m, k, block, x); });
  }
}

void run_linear(flx_team *team, const flx_linear &l) {
  if (l.m == 0 || l.weight.n == 0) return;
  prepare_rows(team, l);
  const int64_t panels = (l.weight.n + FLX_PANEL - 1) / FLX_PANEL;
  const int64_t tiles = (panels + TILE_PANELS - 1) / TILE_PANELS;
  const int64_t parts = (l.m + MOST_ROWS - 1) / MOST_ROWS;
  parallel(team, tiles * parts, [&](int64_t tile) {
    const int64_t from = tile / tiles * MOST_ROWS;
    const int64_t to = std::min<int64_t>(l.m, from + MOST_ROWS);
    const int64_t first = tile % tiles * TILE_PANELS;
    for (int64_t panel = first; panel < std::min(panels, first + TILE_PANELS); panel++) run_panel(l, panel, from, to);
  });
}

extern "C" int64_t flx_linear_scratch_bytes(int32_t type, int32_t, int64_t m, int64_t k) {
  return is_integer(type) ? integer_rows_bytes(m, k) : m * k * 4;
}
