/* Ops that touch every element once. */
#include <cmath>
#include <cstring>

#include "activation.h"
#include "panel.h"
#include "steps.h"
#include "team.h"

/* Elements of a tile: enough that taking it costs nothing beside it. */
static constexpr int64_t TILE_ELEMENTS = 16384;

template <class Work> static void by_rows(flx_team *team, int64_t rows, int64_t columns, const Work &work) {
  const int64_t step = columns >= TILE_ELEMENTS ? 1 : TILE_ELEMENTS / (columns > 0 ? columns : 1);
  parallel(team, (rows + step - 1) / step, [&](int64_t tile) {
    for (int64_t row = tile * step; row < rows && row < (tile + 1) * step; row++) work(row);
  });
}

void run_embed(flx_team *team, const flx_embed &e) {
  by_rows(team, e.m, e.table.k, [&](int64_t row) {
    const int64_t from = static_cast<int64_t>(e.ids[row]) + e.offset;
    if (from >= 0 && from < e.table.n) unpack_row(e.table, from, e.y + row * e.table.k);
  });
}

void run_select(flx_team *team, const flx_select &s) {
  by_rows(team, s.rows, s.columns, [&](int64_t row) {
    const int64_t id = s.ids ? s.ids[row] : row;
    const float *from = s.other && id >= s.rows ? s.other + (id - s.rows) * s.columns : s.x + id * s.columns;
    float *to = s.y + row * s.columns;
    if (to != from) std::memcpy(to, from, static_cast<size_t>(s.columns) * 4);
  });
}

/* Sums that a row's terms are dealt out to, one after the other: the compiler makes vectors of them, and their order stays. */
static constexpr int64_t SUMS = 16;

/* The sum of term(x[i]) in f64, which costs nothing beside the products around it: a row has thousands of terms. */
template <class Term> static double sum_of(const float *x, int64_t count, const Term &term) {
  double sums[SUMS] = {};
  int64_t i = 0;
  for (; i + SUMS <= count; i += SUMS)
    for (int64_t j = 0; j < SUMS; j++) sums[j] += term(static_cast<double>(x[i + j]));
  for (int64_t j = 0; i + j < count; j++) sums[j] += term(static_cast<double>(x[i + j]));
  double total = 0;
  for (int64_t j = 0; j < SUMS; j++) total += sums[j];
  return total;
}

static void norm_group(const flx_norm &n, const float *x, float *y, int64_t columns) {
  const double count = static_cast<double>(columns);
  const double mean = n.kind == 0 ? sum_of(x, columns, [](double value) { return value; }) / count : 0;
  const double squares = sum_of(x, columns, [mean](double value) { return (value - mean) * (value - mean); });
  const float factor = static_cast<float>(1 / std::sqrt(squares / count + static_cast<double>(n.epsilon)));
  const float center = static_cast<float>(mean);
  for (int64_t i = 0; i < columns; i++) y[i] = (x[i] - center) * factor;
  if (n.weight)
    for (int64_t i = 0; i < columns; i++) y[i] *= n.weight[i];
  if (n.bias)
    for (int64_t i = 0; i < columns; i++) y[i] += n.bias[i];
}

void run_norm(flx_team *team, const flx_norm &n) {
  const int64_t columns = n.columns / n.groups;
  by_rows(team, n.rows, n.columns, [&](int64_t row) {
    for (int64_t group = 0; group < n.groups; group++) {
      const int64_t at = row * n.columns + group * columns;
      norm_group(n, n.x + at, n.y + at, columns);
    }
  });
}

static void map_row(const flx_map &m, const float *a, const float *b, float *y, float single) {
  const int64_t columns = m.columns;
  switch (m.kind) {
    case 0:
      for (int64_t i = 0; i < columns; i++) y[i] = a[i] + b[i];
      return;
    case 1:
      for (int64_t i = 0; i < columns; i++) y[i] = a[i] * b[i];
      return;
    case 2:
      for (int64_t i = 0; i < columns; i++) y[i] = a[i] * single;
      return;
    case 3:
      for (int64_t i = 0; i < columns; i++) y[i] = a[i] * m.factor;
      return;
    default:
      for (int64_t i = 0; i < columns; i++) y[i] = m.factor * std::tanh(a[i] / m.factor);
  }
}

void run_map(flx_team *team, const flx_map &m) {
  by_rows(team, m.rows, m.columns, [&](int64_t row) {
    const int64_t at = row * m.columns;
    map_row(m, m.a + at, m.b ? m.b + at : nullptr, m.y + at, m.kind == 2 ? m.b[row] : 0);
  });
}

static void rotate_head(const flx_rope &r, const float *x, float *y, const float *cosines, const float *sines) {
  const int64_t pairs = r.rotary / 2;
  for (int64_t i = 0; i < pairs; i++) {
    const int64_t first = r.style == 0 ? i : 2 * i, second = r.style == 0 ? i + pairs : 2 * i + 1;
    const float a = x[first], b = x[second];
    y[first] = a * cosines[i] - b * sines[i];
    y[second] = b * cosines[i] + a * sines[i];
  }
  for (int64_t i = r.rotary; i < r.head; i++) y[i] = x[i];
}

/* More than any model's head. */
static constexpr int64_t MOST_PAIRS = 512;

void run_rope(flx_team *team, const flx_rope &r) {
  by_rows(team, r.rows, r.columns, [&](int64_t row) {
    float cosines[MOST_PAIRS], sines[MOST_PAIRS];
    for (int64_t i = 0; i < r.rotary / 2; i++) {
      /* In f64: at position 10^6 a float angle is wrong by 0.03. */
      const double angle = static_cast<double>(r.positions[row]) / static_cast<double>(r.divisors[i]);
      cosines[i] = static_cast<float>(std::cos(angle)) * r.factor;
      sines[i] = static_cast<float>(std::sin(angle)) * r.factor;
    }
    for (int64_t head = 0; head < r.columns; head += r.head) {
      const int64_t at = row * r.columns + head;
      rotate_head(r, r.x + at, r.y + at, cosines, sines);
    }
  });
}
