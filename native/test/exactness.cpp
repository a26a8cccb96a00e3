/* No bit of a row depends on the rows beside it, on threads, or on the order of weights in memory; what is no finite number stays in its row. */
#include <algorithm>

#include "formats.h"

static Array<float> product(const Test &t, const flx_weight &w, const float *x, int64_t m, flx_team *team = nullptr) {
  Array<float> y(m * w.n);
  const Array<uint8_t> scratch((t.lib.linear_scratch_bytes(w.type, m, w.k) + 3) / 4 * 4);
  flx_linear l{};
  l.weight = w;
  l.x = x;
  l.y = y.data();
  l.scratch = scratch.data();
  l.ldy = w.n;
  l.m = static_cast<int32_t>(m);
  t.run(FLX_LINEAR, &l, team);
  return y;
}

/* Rows `first` ... of `whole` are those of `part`. */
static bool has_rows(const Array<float> &whole, int64_t first, int64_t n, const Array<float> &part) {
  return std::memcmp(whole.data() + first * n, part.data(), static_cast<size_t>(part.bytes())) == 0;
}

static void try_batches(Test &t, const Format &f, int64_t m) {
  Random random(23);
  const int64_t n = 65, k = f.values == 256 ? 768 : f.values == 32 ? 544 : 546;
  const std::string name = std::string("exactness ") + f.name + ": ";
  Random same(29), again(29);
  const Weight packed = random_weight(t, same, f, n, k, true), plain = random_weight(t, again, f, n, k, false);
  const Array<float> x = random_floats(random, m * k);
  const Array<float> whole = product(t, packed.value, x.data(), m);
  t.expect_same(whole, product(t, packed.value, x.data(), m, t.teams[0]), name + "one thread");
  t.expect_same(whole, product(t, packed.value, x.data(), m, t.teams[2]), name + "three threads");
  t.expect_same(whole, product(t, plain.value, x.data(), m), name + "weights in the file's order");
  /* Around the edges of all tiles, from changing places. */
  int64_t first = 0;
  for (const int64_t count : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 23, 24, 25, 31, 32, 33}) {
    first = (first + 3) % (m - 33);
    t.expect(has_rows(whole, first, n, product(t, packed.value, x.data() + first * k, count)), name + std::to_string(count) + " rows");
  }
  bool alone = true;
  for (int64_t row = 0; row < m; row += 5) alone = alone && has_rows(whole, row, n, product(t, plain.value, x.data() + row * k, 1));
  t.expect(alone, name + "rows alone");
}

/* So many columns that a thread takes several panels at once, and few rows two of them by turns; the last one is no whole panel. */
static void try_many_columns(Test &t, const Format &f) {
  Random random(41), same(43), again(43);
  const int64_t n = 49 * 32 + 7, k = f.values == 256 ? 512 : f.values == 32 ? 512 + 64 : 9, m = 12;
  const Weight packed = random_weight(t, same, f, n, k, true), plain = random_weight(t, again, f, n, k, false);
  const Array<float> x = random_floats(random, m * k), whole = product(t, plain.value, x.data(), m);
  for (const int64_t count : {1, 5, 12})
    t.expect(has_rows(whole, 0, n, product(t, packed.value, x.data(), count, t.teams[0])),
             std::string("exactness ") + f.name + ": " + std::to_string(count) + " rows of many columns");
}

/* `count` of m rows: fewer are multiplied at once, or with shorter pieces of k. */
static void try_many_rows(Test &t, const Format &f, int64_t m, int64_t k, int64_t count) {
  Random random(31);
  const int64_t n = 33;
  const Weight w = random_weight(t, random, f, n, k, true);
  const Array<float> x = random_floats(random, m * k), whole = product(t, w.value, x.data(), m);
  for (const int64_t first : {int64_t{0}, int64_t{7}, m - count})
    t.expect(has_rows(whole, first, n, product(t, w.value, x.data() + first * k, count)), std::string("exactness ") + f.name + ": " + std::to_string(count) + " of " + std::to_string(m) + " rows");
}

static void try_wrong_rows(Test &t, const Format &f, int64_t m) {
  Random random(37);
  const int64_t n = 35, k = f.values == 256 ? 512 : 96;
  const Weight w = random_weight(t, random, f, n, k, true);
  const Array<float> x = random_floats(random, m * k), clean = product(t, w.value, x.data(), m);
  const std::vector<std::pair<int64_t, float>> wrong = {{0, NAN}, {5, INFINITY}, {9, -INFINITY}, {m - 1, NAN}};
  for (const auto &[row, value] : wrong) x[row * k + random.below(k)] = value;
  const Array<float> y = product(t, w.value, x.data(), m);
  for (int64_t row = 0; row < m; row++) {
    const bool is_wrong = std::any_of(wrong.begin(), wrong.end(), [&](const auto &each) { return each.first == row; });
    bool none_finite = true;
    for (int64_t i = 0; i < n; i++) none_finite = none_finite && !std::isfinite(y[row * n + i]);
    const bool same = std::memcmp(&y[row * n], &clean[row * n], static_cast<size_t>(n) * 4) == 0;
    t.expect(is_wrong ? none_finite : same, std::string("not finite ") + f.name + ": row " + std::to_string(row));
  }
}

void test_exactness(Test &t) {
  std::vector<Format> formats = FORMATS;
  formats.push_back(FOREIGN);
  for (const Format &f : formats) {
    try_batches(t, f, 46);
    for (const int64_t m : {14, 25}) try_wrong_rows(t, f, m);
    try_many_columns(t, f);
  }
  for (const int32_t type : {FLX_F32, FLX_BF16, FLX_Q4_0, FLX_Q4_1, FLX_Q8_0}) try_many_rows(t, format_of(type), 1013, 64, 500);
  for (const int32_t type : {FLX_F32, FLX_BF16, FLX_Q8_0, FLX_IQ4_NL, FLX_Q4_1, FLX_Q4_K, FLX_Q6_K}) try_many_rows(t, format_of(type), 129, 4096 + 256, 101);
}
