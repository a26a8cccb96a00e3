/* Ops that touch each element once. */
#include <algorithm>

#include "formats.h"

/* Whether the rows of y whose ids are in [from, to) equal those of `whole`, and the others are as an array begins. */
static bool only_rows(const Array<float> &y, const Array<float> &whole, const Array<int32_t> &ids, int64_t from, int64_t to) {
  const int64_t k = y.size() / ids.size();
  const Array<float> nothing(k);
  for (int64_t i = 0; i < ids.size(); i++) {
    const float *expected = ids[i] >= from && ids[i] < to ? &whole[i * k] : nothing.data();
    if (std::memcmp(&y[i * k], expected, static_cast<size_t>(k) * 4) != 0) return false;
  }
  return true;
}

/* A table in two pieces, each in memory of its own: `e` has the whole one, and its rows in y. */
static Array<float> embed_pieces(Test &t, flx_embed e, const Weight &w, const Array<int32_t> &ids, const Array<float> &whole, const std::string &name) {
  const int64_t cut = FLX_PANEL, bytes = w.value.row_bytes;
  const int32_t offset = e.offset;
  Array<float> y(whole.size());
  e.y = y.data();
  for (const int64_t from : {int64_t{0}, cut}) {
    const int64_t to = from == 0 ? cut : w.value.n;
    const Array<uint8_t> piece((to - from) * bytes);
    std::memcpy(piece.data(), w.data.data() + from * bytes, static_cast<size_t>(piece.bytes()));
    e.table.data = piece.data();
    e.table.n = static_cast<int32_t>(to - from);
    e.offset = offset - static_cast<int32_t>(from);
    t.run(FLX_EMBED, &e);
    t.expect(only_rows(y, whole, ids, -offset, to - offset), name + ": rows of one piece alone");
  }
  return y;
}

static void try_embed(Test &t, const Format &f) {
  Random random(41);
  const int64_t n = 67, k = f.values == 1 ? 33 : f.values * 2, m = 9, offset = 2;
  for (const bool packed : {false, true}) {
    const Weight w = random_weight(t, random, f, n, k, packed);
    Array<int32_t> ids(m);
    for (int64_t i = 0; i < m; i++) ids[i] = static_cast<int32_t>(i == 0 ? n - 1 - offset : i < 3 ? FLX_PANEL - offset - i + 1 : random.below(n - offset));
    const Array<float> y(m * k);
    flx_embed e{};
    e.table = w.value;
    e.ids = ids.data();
    e.y = y.data();
    e.m = m;
    e.offset = offset;
    t.run(FLX_EMBED, &e);
    std::vector<double> expected, bounds;
    for (int64_t i = 0; i < m * k; i++) {
      const int64_t at = (ids[i / k] + offset) * k + i % k;
      expected.push_back(w.at(at));
      /* The two parts are rounded, and their difference; floats are what they are. */
      bounds.push_back(is_float(f) ? 0 : 2 * U * (std::fabs(w.codes[static_cast<size_t>(at)]) + std::fabs(w.minima[static_cast<size_t>(at)])));
    }
    const std::string name = std::string("embed ") + f.name + (packed ? " in panels" : "");
    t.expect_close(y.data(), expected, bounds, name);
    t.expect_close(embed_pieces(t, e, w, ids, y, name).data(), expected, bounds, name + " in pieces");
    e.m = 0;
    t.run(FLX_EMBED, &e);
  }
}

static void try_norm(Test &t, int32_t rows, int32_t columns, int32_t groups, int32_t kind, bool scaled) {
  Random random(43);
  const Array<float> x = random_floats(random, rows * columns, -3, 5), y(rows * columns);
  const int32_t size = columns / groups;
  const Array<float> weight = random_floats(random, size), bias = random_floats(random, size);
  const float epsilon = 1e-5f;
  if (rows > 2) std::fill(&x[columns], &x[2 * columns], 0.f);
  if (rows > 3) x[3 * columns] = NAN;
  const flx_norm n{x.data(), y.data(), scaled ? weight.data() : nullptr, scaled ? bias.data() : nullptr, rows, columns, groups, kind, epsilon};
  t.run(FLX_NORM, &n);
  std::vector<double> expected, bounds;
  for (int32_t group = 0; group < rows * groups; group++) {
    const float *from = x.data() + group * size;
    double mean = 0, squares = 0;
    for (int32_t i = 0; kind == 0 && i < size; i++) mean += static_cast<double>(from[i]) / size;
    for (int32_t i = 0; i < size; i++) squares += (static_cast<double>(from[i]) - mean) * (static_cast<double>(from[i]) - mean) / size;
    const double factor = 1 / std::sqrt(squares + static_cast<double>(epsilon));
    for (int32_t i = 0; i < size; i++) {
      const double w = scaled ? static_cast<double>(weight[i]) : 1, b = scaled ? static_cast<double>(bias[i]) : 0;
      expected.push_back((static_cast<double>(from[i]) - mean) * factor * w + b);
      bounds.push_back(4 * U * ((std::fabs(static_cast<double>(from[i])) + std::fabs(mean)) * factor * std::fabs(w) + std::fabs(b)));
    }
  }
  t.expect_close(y.data(), expected, bounds, "norm of kind " + std::to_string(kind) + " [" + std::to_string(rows) + ", " + std::to_string(columns) + "]");
}

static void try_map(Test &t, int32_t kind) {
  Random random(47);
  const int32_t rows = 5, columns = 4097;
  const float factor = 2.5f;
  const Array<float> a = random_floats(random, rows * columns, -9, 9), b = random_floats(random, kind == 2 ? rows : rows * columns), y(rows * columns);
  a[columns] = NAN;
  a[3] = INFINITY;
  a[4] = 1e-42f;
  const flx_map m{a.data(), kind < 3 ? b.data() : nullptr, y.data(), rows, columns, kind, factor};
  t.run(FLX_MAP, &m);
  std::vector<double> expected, bounds;
  for (int32_t i = 0; i < rows * columns; i++) {
    const double x = static_cast<double>(a[i]), c = static_cast<double>(factor);
    const double value = kind == 0   ? x + static_cast<double>(b[i])
                         : kind == 1 ? x * static_cast<double>(b[i])
                         : kind == 2 ? x * static_cast<double>(b[i / columns])
                         : kind == 3 ? x * c
                                     : c * std::tanh(x / c);
    expected.push_back(value);
    bounds.push_back((kind == 4 ? 4 : 1) * U * std::fabs(value) + 0x1p-149);
  }
  t.expect_close(y.data(), expected, bounds, "map of kind " + std::to_string(kind));
}

static void try_select(Test &t) {
  Random random(53);
  const int32_t rows = 6, columns = 33;
  const Array<float> x = random_floats(random, rows * columns), other = random_floats(random, 3 * columns);
  const Array<int32_t> ids(rows);
  for (int32_t i = 0; i < rows; i++) ids[i] = static_cast<int32_t>(random.below(rows + 3));
  for (const bool by_ids : {false, true}) {
    const Array<float> y(rows * columns);
    const flx_select s{x.data(), by_ids ? other.data() : nullptr, by_ids ? ids.data() : nullptr, y.data(), rows, columns};
    t.run(FLX_SELECT, &s);
    bool same = true;
    for (int32_t i = 0; i < rows; i++) {
      const int32_t id = by_ids ? ids[i] : i;
      const float *from = id < rows ? &x[id * columns] : &other[(id - rows) * columns];
      same = same && std::memcmp(&y[i * columns], from, static_cast<size_t>(columns) * 4) == 0;
    }
    t.expect(same, by_ids ? "select by ids" : "select");
  }
}

static void try_rope(Test &t, int32_t style, int32_t head, int32_t rotary) {
  Random random(59);
  const int32_t rows = 4, columns = 3 * head;
  const float factor = 1.25f;
  const Array<float> x = random_floats(random, rows * columns), y(rows * columns), divisors(rotary / 2);
  for (int32_t i = 0; i < rotary / 2; i++) divisors[i] = static_cast<float>(std::pow(10000, 2.0 * i / rotary));
  const Array<int32_t> positions(rows);
  for (int32_t i = 0; i < rows; i++) positions[i] = i * 333333;
  const flx_rope r{x.data(), y.data(), positions.data(), divisors.data(), rows, columns, head, rotary, style, factor};
  t.run(FLX_ROPE, &r);
  std::vector<double> expected(static_cast<size_t>(rows * columns)), bounds(expected.size());
  for (int32_t i = 0; i < rows * columns; i++) {
    const int32_t e = i % head, pairs = rotary / 2;
    const int32_t pair = style == 0 ? e % pairs : e / 2, other = style == 0 ? (e < pairs ? i + pairs : i - pairs) : i ^ 1;
    const size_t at = static_cast<size_t>(i);
    expected[at] = static_cast<double>(x[i]);
    if (e >= rotary) continue;
    const bool first = style == 0 ? e < pairs : e % 2 == 0;
    const double angle = static_cast<double>(positions[i / columns]) / static_cast<double>(divisors[pair]);
    const double a = static_cast<double>(x[i]) * static_cast<double>(factor), b = static_cast<double>(x[other]) * static_cast<double>(factor);
    expected[at] = a * std::cos(angle) + (first ? -b : b) * std::sin(angle);
    bounds[at] = 4 * U * (std::fabs(a) + std::fabs(b));
  }
  t.expect_close(y.data(), expected, bounds, "rope of style " + std::to_string(style) + ", head " + std::to_string(head));
}

void test_elements(Test &t) {
  for (const Format &f : FORMATS) try_embed(t, f);
  for (int32_t kind = 0; kind <= 1; kind++)
    for (const bool scaled : {false, true}) {
      try_norm(t, 5, 33, 1, kind, scaled);
      try_norm(t, 2, 4095, 1, kind, scaled);
      try_norm(t, 4, 62, 2, kind, scaled);
      try_norm(t, 0, 8, 1, kind, scaled);
      try_norm(t, 1, 1, 1, kind, scaled);
    }
  for (int32_t kind = 0; kind <= 4; kind++) try_map(t, kind);
  try_select(t);
  for (int32_t style = 0; style <= 1; style++) {
    try_rope(t, style, 64, 64);
    try_rope(t, style, 20, 8);
  }
}
