/* Mixtures of experts: choice, shares and order, with the products of all rows of an expert at once. */
#include <algorithm>
#include <numeric>

#include "references.h"

namespace {
struct Shape {
  int32_t rows, columns, inner, experts, used;
  bool normalise;
};

/* Experts in as many pieces of memory. */
struct Stack {
  flx_stack value;
  std::vector<Array<uint8_t>> pieces;
  Array<flx_place> places;
};

struct Stacks {
  Stack gate, up, down;
};
} // namespace

/*
 * `w`, which is in the file's order, cut before the experts in `cuts`. Each piece is packed where the library can: one expert always, several ones if each
 * is whole panels.
 */
static Stack stack_of(const Test &t, const Weight &w, int64_t experts, const std::vector<int64_t> &cuts) {
  const int64_t rows = w.value.n / experts;
  Stack stack{{w.value, nullptr}, {}, Array<flx_place>(experts)};
  stack.value.each.n = static_cast<int32_t>(rows);
  stack.value.places = stack.places.data();
  for (size_t i = 0; i <= cuts.size(); i++) {
    const int64_t from = i == 0 ? 0 : cuts[i - 1], to = i < cuts.size() ? cuts[i] : experts;
    const int64_t bytes = rows * w.value.row_bytes;
    const Array<uint8_t> &piece = stack.pieces.emplace_back((to - from) * bytes);
    std::memcpy(piece.data(), w.data.data() + from * bytes, static_cast<size_t>(piece.bytes()));
    flx_weight part = w.value;
    part.data = piece.data();
    part.n = static_cast<int32_t>((to - from) * rows);
    const bool packed = (to - from == 1 || rows % FLX_PANEL == 0) && t.lib.packs(part.type, part.k);
    if (packed) t.lib.pack(t.teams[1], &part);
    for (int64_t e = from; e < to; e++) stack.places[e] = {piece.data() + (e - from) * bytes, packed};
  }
  return stack;
}

static Array<float> mix(const Test &t, const Shape &s, const Stacks &stacks, const float *x, const float *logits) {
  Array<float> y(static_cast<int64_t>(s.rows) * s.columns);
  flx_moe m{};
  m.gate = stacks.gate.value;
  m.up = stacks.up.value;
  m.down = stacks.down.value;
  m.x = x;
  m.logits = logits;
  m.y = y.data();
  m.rows = s.rows;
  m.columns = s.columns;
  m.inner = s.inner;
  m.experts = s.experts;
  m.used = s.used;
  m.normalise = s.normalise;
  m.activation = FLX_SILU;
  const Array<uint8_t> scratch((t.lib.moe_scratch_bytes(&m) + 7) / 8 * 8);
  m.scratch = scratch.data();
  t.run(FLX_MOE, &m);
  return y;
}

/* Rows of one expert as a weight of its own. */
static Weight expert_of(const Weight &w, int64_t expert, int64_t rows) {
  const int64_t k = w.value.k, from = expert * rows * k, to = from + rows * k;
  Weight part{w.format, Array<uint8_t>(0), w.value, {w.codes.begin() + from, w.codes.begin() + to}, {w.minima.begin() + from, w.minima.begin() + to}};
  part.value.n = static_cast<int32_t>(rows);
  return part;
}

/* The activations between are rounded from slightly other values than the kernels': now and then one falls on the other side, by a step. */
static double step_of(const Test &t, const Weight &down, const std::vector<float> &hidden) {
  const std::vector<double> rounded = rounded_activations(t, down.format, hidden.data(), 1, down.value.k);
  double most = 0;
  for (size_t i = 0; i < hidden.size(); i++) most = std::max(most, std::fabs(rounded[i] - static_cast<double>(hidden[i])));
  return 4 * most;
}

static void expect_mixed(Test &t, const Format &f, const Shape &s) {
  Random random(67);
  const std::string name = std::string("experts ") + f.name + (s.normalise ? " normalised" : "");
  const auto weight = [&](int64_t rows, int64_t k) { return random_weight(t, random, f, s.experts * rows, k, false); };
  const Weight gate = weight(s.inner, s.columns), up = weight(s.inner, s.columns), down = weight(s.columns, s.inner);
  const Array<float> x = random_floats(random, static_cast<int64_t>(s.rows) * s.columns, -0.2, 0.2);
  const Array<float> logits = random_floats(random, static_cast<int64_t>(s.rows) * s.experts, -2, 2);
  if (s.rows > 1) std::fill(&logits[s.experts], &logits[2 * s.experts], 0.5f); /* the first ones of equals */
  const Stacks whole{stack_of(t, gate, s.experts, {}), stack_of(t, up, s.experts, {}), stack_of(t, down, s.experts, {})};
  const Array<float> y = mix(t, s, whole, x.data(), logits.data());
  std::vector<double> expected(static_cast<size_t>(y.size())), bounds(expected.size());
  for (int32_t row = 0; row < s.rows; row++) {
    const float *l = &logits[row * s.experts];
    std::vector<int32_t> order(static_cast<size_t>(s.experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return l[a] > l[b]; });
    double sum = 0;
    for (int32_t i = 0; i < (s.normalise ? s.used : s.experts); i++) sum += std::exp(static_cast<double>(l[order[static_cast<size_t>(i)]]));
    for (int32_t rank = 0; rank < s.used; rank++) {
      const int32_t expert = order[static_cast<size_t>(rank)];
      const Expected g = linear_reference(t, expert_of(gate, expert, s.inner), &x[row * s.columns], 1);
      const Expected u = linear_reference(t, expert_of(up, expert, s.inner), &x[row * s.columns], 1);
      std::vector<float> hidden;
      for (size_t i = 0; i < g.values.size(); i++) hidden.push_back(static_cast<float>(activation_reference(g.values[i], FLX_SILU) * u.values[i]));
      const Weight own = expert_of(down, expert, s.columns);
      const Expected d = linear_reference(t, own, hidden.data(), 1);
      const double share = std::exp(static_cast<double>(l[expert])) / sum, step = step_of(t, own, hidden);
      for (int32_t c = 0; c < s.columns; c++) {
        double most = 0, size = 0;
        for (int32_t i = 0; i < s.inner; i++) {
          most = std::max(most, std::fabs(own.at(c * s.inner + i)));
          size += std::fabs(static_cast<double>(hidden[static_cast<size_t>(i)]) * own.at(c * s.inner + i));
        }
        const size_t at = static_cast<size_t>(row * s.columns + c);
        expected[at] += share * d.values[static_cast<size_t>(c)];
        bounds[at] += share * (d.bounds[static_cast<size_t>(c)] + 100 * U * size + step * most);
      }
    }
  }
  t.expect_close(y.data(), expected, bounds, name);
  for (const std::vector<int64_t> &cuts : {std::vector<int64_t>{1}, std::vector<int64_t>{1, 2}}) {
    const Stacks pieces{stack_of(t, gate, s.experts, cuts), stack_of(t, up, s.experts, {2}), stack_of(t, down, s.experts, cuts)};
    const Array<float> again = mix(t, s, pieces, x.data(), logits.data());
    t.expect_close(again.data(), expected, bounds, name + " in pieces");
    t.expect_same(again, y, name + " in pieces");
  }
  bool same = true;
  Shape alone = s;
  alone.rows = 1;
  for (int32_t row = 0; row < s.rows; row++) {
    const Array<float> one = mix(t, alone, whole, &x[row * s.columns], &logits[row * s.experts]);
    same = same && std::memcmp(one.data(), &y[row * s.columns], static_cast<size_t>(one.bytes())) == 0;
  }
  t.expect(same, name + ": rows alone");
}

void test_experts(Test &t) {
  for (const bool normalise : {false, true}) {
    expect_mixed(t, format_of(FLX_F32), {9, 33, 47, 5, 2, normalise});
    expect_mixed(t, format_of(FLX_F16), {5, 96, 64, 3, 2, normalise});
    expect_mixed(t, format_of(FLX_BF16), {9, 64, 34, 4, 3, normalise});
    expect_mixed(t, format_of(FLX_Q8_0), {9, 64, 96, 5, 2, normalise});
    /* Experts with more and with fewer rows than are multiplied by signs. */
    expect_mixed(t, format_of(FLX_Q8_0), {40, 64, 96, 3, 2, normalise});
    expect_mixed(t, format_of(FLX_Q4_1), {3, 32, 64, 3, 1, normalise});
  }
  expect_mixed(t, format_of(FLX_F32), {0, 33, 47, 5, 2, false});
}
