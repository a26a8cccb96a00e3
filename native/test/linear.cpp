/* Products with every type of weights: sizes around all tiles, extreme values, what is added behind the product. */
#include <algorithm>

#include "references.h"

namespace {
struct Shape {
  int64_t m, n, k;
};
/* What follows a product. */
struct Behind {
  bool bias = false;
  bool factors = false;
  bool residual = false;
  int32_t activation = FLX_NONE;
  int64_t gap = 0; /* elements between rows of y */
};
} // namespace

static std::string name_of(const Weight &w, int64_t m, const char *what) {
  return std::string("linear ") + w.format.name + " [" + std::to_string(m) + ", " + std::to_string(w.value.n) + ", " + std::to_string(w.value.k) + "] " + what;
}

static void add(std::vector<double> &values, std::vector<double> &bounds, size_t i, double term) {
  values[i] += term;
  bounds[i] += U * (std::fabs(values[i]) + bounds[i]);
}

static void expect_product(Test &t, const Weight &w, const Array<float> &x, int64_t m, const char *what, const Behind &behind = {}) {
  const int64_t n = w.value.n, ldy = n + behind.gap;
  Random random(7);
  const Array<float> bias = random_floats(random, n), factors = random_floats(random, m * ldy), residual = random_floats(random, m * ldy);
  const Array<float> y(m * ldy), untouched(m * ldy);
  const Array<uint8_t> scratch((t.lib.linear_scratch_bytes(w.value.type, m, w.value.k) + 3) / 4 * 4);
  flx_linear l{};
  l.weight = w.value;
  l.x = x.data();
  l.y = y.data();
  l.bias = behind.bias ? bias.data() : nullptr;
  l.factors = behind.factors ? factors.data() : nullptr;
  l.residual = behind.residual ? residual.data() : nullptr;
  l.scratch = scratch.data();
  l.ldy = ldy;
  l.m = static_cast<int32_t>(m);
  l.activation = behind.activation;
  t.run(FLX_LINEAR, &l);
  Expected expected = linear_reference(t, w, x.data(), m);
  bool kept = true;
  std::vector<float> got;
  for (int64_t row = 0; row < m; row++)
    for (int64_t column = 0; column < ldy; column++) {
      const int64_t at = row * ldy + column;
      if (column >= n) {
        kept = kept && std::memcmp(&y[at], &untouched[at], 4) == 0;
        continue;
      }
      const size_t i = got.size();
      got.push_back(y[at]);
      if (behind.bias) add(expected.values, expected.bounds, i, static_cast<double>(bias[column]));
      if (behind.activation != FLX_NONE) {
        expected.bounds[i] = activation_bound(expected.values[i], expected.bounds[i]);
        expected.values[i] = activation_reference(expected.values[i], behind.activation);
      }
      if (behind.factors) {
        const double factor = static_cast<double>(factors[at]);
        expected.values[i] *= factor;
        expected.bounds[i] = (expected.bounds[i] + U * std::fabs(expected.values[i])) * std::max(1.0, std::fabs(factor));
      }
      if (behind.residual) add(expected.values, expected.bounds, i, static_cast<double>(residual[at]));
    }
  t.expect_close(got.data(), expected.values, expected.bounds, name_of(w, m, what));
  if (behind.gap > 0) t.expect(kept, name_of(w, m, "keeps what is between rows"));
}

/* Sizes of k in values of a format that has blocks of `values`. */
static int64_t length(const Format &f, int64_t k) { return std::max<int64_t>(1, k / f.values) * f.values; }

static void try_shapes(Test &t, const Format &f) {
  std::vector<Shape> shapes = {{0, 33, 32}, {1, 1, 1}, {1, 33, 4095}, {3, 31, 31}, {2, 32, 33}, {37, 65, 545}, {5, 96, 257}, {3, 64, 2050}, {24, 33, 95}, {16, 65, 545}};
  for (int64_t m = 1; m <= 14; m++) shapes.push_back({m, 33, 95});
  for (const Shape &s : shapes)
    for (const bool packed : {false, true}) {
      if (packed && s.m > 1 && s.m <= 14 && s.m % 3 != 0) continue;
      Random random(static_cast<uint64_t>(s.m * 1000 + s.n));
      const int64_t k = length(f, s.k);
      const Weight w = random_weight(t, random, f, s.n, k, packed);
      const Array<float> x = random_floats(random, s.m * k);
      expect_product(t, w, x, s.m, packed ? "in panels" : "in the file's order");
    }
}

static void try_values(Test &t, const Format &f, int64_t m) {
  Random random(11);
  const int64_t n = 37, k = length(f, 160);
  const Weight w = random_weight(t, random, f, n, k, true, Scales::EXTREME), ordinary = random_weight(t, random, f, n, k, true);
  /* Each row has its own scale; within it, groups of zeros, of one large value, of denormals. */
  static constexpr float SCALES[] = {0, 1e-42f, 1e-30f, 1, 1000, -1000, 1e-37f};
  Array<float> x = random_floats(random, m * k);
  for (int64_t i = 0; i < m * k; i++) {
    x[i] *= SCALES[i / k % 7];
    if (i / 32 % 3 == 1) x[i] = i % 32 == 5 ? x[i] : 0;
  }
  expect_product(t, w, x, m, "extreme scales");
  expect_product(t, ordinary, x, m, "extreme activations");
}

static void try_behind(Test &t, const Format &f) {
  Random random(13);
  const int64_t m = 5, n = 71, k = length(f, 64);
  const Weight w = random_weight(t, random, f, n, k, true);
  const Array<float> x = random_floats(random, m * k);
  expect_product(t, w, x, m, "with a bias", {true, false, false, FLX_NONE, 0});
  expect_product(t, w, x, m, "with a residual and a gap", {false, false, true, FLX_NONE, 3});
  expect_product(t, w, x, m, "with factors", {false, true, false, FLX_NONE, 0});
  for (int32_t activation = FLX_RELU; activation <= FLX_SIGMOID; activation++)
    expect_product(t, w, x, m, ("with bias, activation, factors and residual " + std::to_string(activation)).c_str(), {true, true, true, activation, 5});
}

/* k = 1 and a weight of 1: the activation functions alone. */
static void try_activations(Test &t) {
  Random random(17);
  Array<float> x(2000);
  for (int64_t i = 0; i < x.size(); i++) x[i] = random.between(-1, 1) * std::exp2(random.between(-30, 8));
  static constexpr float SPECIAL[] = {0, -0.f, 1e-45f, -1e-40f, 87.5f, -87.5f, 88.9f, -88.9f, 300, -300, 1e30f, NAN};
  std::copy(std::begin(SPECIAL), std::end(SPECIAL), x.data());
  Weight one = random_weight(t, random, format_of(FLX_F32), 1, 1, false);
  const float single = 1;
  std::memcpy(one.data.data(), &single, 4);
  one.codes = {1};
  for (int32_t activation = FLX_RELU; activation <= FLX_SIGMOID; activation++)
    expect_product(t, one, x, x.size(), ("activation " + std::to_string(activation)).c_str(), {false, false, false, activation, 0});
}

void test_linear(Test &t) {
  std::vector<Format> formats = FORMATS;
  formats.push_back(FOREIGN);
  for (const Format &f : formats) {
    try_shapes(t, f);
    for (const int64_t m : {7, 25})
      if (f.type != FOREIGN_TYPE) try_values(t, f, m);
    const std::string isa = t.lib.isa();
    const bool rounds = f.type == FLX_BF16 && (isa == "vnni-bf16" || isa == "amx");
    t.expect(t.lib.exact(f.type) == (is_float(f) && !rounds), std::string("exact: ") + f.name);
    t.expect(t.lib.packs(f.type, 512) == (f.type != FOREIGN_TYPE), std::string("packs: ") + f.name);
  }
  for (const int32_t type : {FLX_F32, FLX_BF16, FLX_Q4_0}) try_behind(t, format_of(type));
  try_activations(t);
}
