/* Attention with every type of cache: ragged batches, windows, shared heads, pieces; the naive side rounds keys and values by itself. */
#include <algorithm>

#include "stored_cache.h"

namespace {
struct Shape {
  int32_t heads, kv_heads, head, window;
  float softcap;
  /* Below 1 for tokens from `prompt` on. */
  double sparsity = 1;
  int32_t prompt = 0;
};
struct Piece {
  int32_t start, tokens;
};
} // namespace

/* One sequence of `tokens`; its queries, keys and values. */
struct Sequence {
  Shape shape;
  int32_t tokens;
  float scale;
  Array<float> q, k, v;
};

static Sequence random_sequence(const Shape &s, int32_t tokens) {
  Random random(static_cast<uint64_t>(61 + s.head));
  const int64_t kv = static_cast<int64_t>(tokens) * s.kv_heads * s.head;
  return {s, tokens, 1 / std::sqrt(static_cast<float>(s.head)), random_floats(random, static_cast<int64_t>(tokens) * s.heads * s.head, -2, 2),
          random_floats(random, kv, -1, 2), random_floats(random, kv, -1, 1)};
}

/*
 * Runs the pieces one after the other; in each batch a second row, the first token alone, has its own page. Memory that was never written holds what are
 * no numbers. `stages`: behind each piece, full pages move to where staged ones are.
 */
static Array<float> attend(const Test &t, const CacheType &c, const Sequence &x, const std::vector<Piece> &pieces, flx_team *team = nullptr, bool stages = false) {
  const Shape &s = x.shape;
  const int64_t pages = (x.tokens + FLX_PAGE - 1) / FLX_PAGE, width = static_cast<int64_t>(s.heads) * s.head, kv = static_cast<int64_t>(s.kv_heads) * s.head;
  const int64_t bytes = page_bytes(c, s.kv_heads, s.head);
  const Array<uint8_t> keys((pages + 1) * bytes), values((pages + 1) * bytes), staged_keys(pages * bytes), staged_values(pages * bytes);
  const auto stage = [&](const Array<int32_t> &list, int64_t page) {
    const int64_t place = (page + 1) % pages;
    const auto move = [&](const Array<uint8_t> &from, const Array<uint8_t> &to) {
      std::memcpy(&to[place * bytes], &from[list[page] * bytes], static_cast<size_t>(bytes));
      std::memset(&from[list[page] * bytes], 0xff, static_cast<size_t>(bytes));
    };
    move(keys, staged_keys);
    move(values, staged_values);
    list[page] = static_cast<int32_t>(FLX_STAGED + place);
  };
  /* From the last page to the first; page 0 is the other row's. */
  const Array<int32_t> own(pages), others(1);
  for (int64_t i = 0; i < pages; i++) own[i] = static_cast<int32_t>(pages - i);
  others[0] = 0;
  Array<float> all(x.tokens * width);
  for (const Piece &piece : pieces) {
    /* The other row comes first, so the piece's rows are not aligned. */
    const auto joined = [&](const Array<float> &from, int64_t columns) {
      Array<float> both((piece.tokens + 1) * columns);
      std::copy(&from[0], &from[0] + columns, both.data());
      std::copy(&from[0] + piece.start * columns, &from[0] + (piece.start + piece.tokens) * columns, both.data() + columns);
      return both;
    };
    const Array<float> q = joined(x.q, width), k = joined(x.k, kv), v = joined(x.v, kv), y((piece.tokens + 1) * width);
    const flx_row rows[3] = {{others.data(), 0, 0, 1, 0}, {own.data(), piece.start, 1, 0, s.prompt}, {own.data(), piece.start, 1, piece.tokens, s.prompt}};
    const flx_batch batch{rows, 3};
    flx_attention a{};
    a.q = q.data();
    a.k = k.data();
    a.v = v.data();
    a.keys = keys.data();
    a.values = values.data();
    a.staged_keys = stages ? staged_keys.data() : nullptr;
    a.staged_values = stages ? staged_values.data() : nullptr;
    a.y = y.data();
    a.batch = &batch;
    a.type = c.type;
    a.heads = s.heads;
    a.kv_heads = s.kv_heads;
    a.head = s.head;
    a.window = s.window;
    a.scale = x.scale;
    a.softcap = s.softcap;
    a.sparsity = s.sparsity;
    t.run(FLX_ATTENTION, &a, team);
    std::copy(y.data() + width, y.data() + y.size(), all.data() + piece.start * width);
    for (int64_t page = 0; stages && page < (piece.start + piece.tokens) / FLX_PAGE; page++)
      if (own[page] < FLX_STAGED) stage(own, page);
  }
  return all;
}

/*
 * Of the weights before the last one, only the floor(sparsity * number) largest stay, the earlier ones among equals. Returns the weight at the border where
 * an error of `tolerance` of it could have changed the choice, otherwise 0.
 */
static double keep_largest(std::vector<double> &weights, double sparsity, double tolerance) {
  const size_t past = weights.size() - 1, count = static_cast<size_t>(sparsity * static_cast<double>(past));
  std::vector<size_t> order(past);
  for (size_t i = 0; i < past; i++) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return weights[a] > weights[b]; });
  const bool is_close = count > 0 && count < past && weights[order[count - 1]] - weights[order[count]] <= tolerance * weights[order[count - 1]];
  const double border = is_close ? weights[order[count - 1]] : 0;
  for (size_t i = count; i < past; i++) weights[order[i]] = 0;
  return border;
}

/* y of one query of one head, for positions `from` to `to`, and the bound of its error. */
static void attend_naively(const Sequence &x, const std::vector<Stored> &k, const std::vector<Stored> &v, int32_t token, int32_t head, double *y, double *bound) {
  const Shape &s = x.shape;
  const int32_t from = s.window > 0 ? std::max(0, token + 1 - s.window) : 0, kv_head = head / (s.heads / s.kv_heads);
  const float *q = &x.q[(static_cast<int64_t>(token) * s.heads + head) * s.head];
  const auto at = [&](int32_t position) { return (static_cast<size_t>(position) * static_cast<size_t>(s.kv_heads) + static_cast<size_t>(kv_head)) * static_cast<size_t>(s.head); };
  std::vector<double> scores;
  double most = -INFINITY, largest = 0;
  for (int32_t position = from; position <= token; position++) {
    double score = 0, size = 0;
    for (int32_t e = 0; e < s.head; e++) {
      const double scaled = static_cast<double>(q[e]) * static_cast<double>(x.scale);
      score += scaled * k[at(position) + static_cast<size_t>(e)].value;
      size += std::fabs(scaled) * k[at(position) + static_cast<size_t>(e)].size;
    }
    if (s.softcap > 0) score = static_cast<double>(s.softcap) * std::tanh(score / static_cast<double>(s.softcap));
    scores.push_back(score);
    most = std::max(most, score);
    largest = std::max(largest, size);
  }
  double sum = 0;
  for (double &score : scores) sum += score = std::exp(score - most);
  const double error = 4 * U * (s.head * largest + token - from + 8);
  const double exchanged = s.sparsity < 1 && token >= s.prompt ? keep_largest(scores, s.sparsity, error) / sum : 0;
  for (int32_t e = 0; e < s.head; e++) {
    double value = 0, size = 0, widest = 0;
    for (int32_t i = 0; i <= token - from; i++) {
      const Stored &element = v[at(from + i) + static_cast<size_t>(e)];
      value += scores[static_cast<size_t>(i)] / sum * element.value;
      size += scores[static_cast<size_t>(i)] / sum * element.size;
      widest = std::max(widest, element.size);
    }
    y[e] = value;
    bound[e] = error * size + 2 * exchanged * widest;
  }
}

static void expect_attended(Test &t, const CacheType &c, const Sequence &x, const Array<float> &y, const std::string &what) {
  const Shape &s = x.shape;
  const std::vector<Stored> k = store(c, x.k), v = store(c, x.v);
  std::vector<double> expected(static_cast<size_t>(y.size())), bounds(expected.size());
  for (int32_t token = 0; token < x.tokens; token++)
    for (int32_t head = 0; head < s.heads; head++) {
      const size_t at = static_cast<size_t>((token * s.heads + head) * s.head);
      attend_naively(x, k, v, token, head, &expected[at], &bounds[at]);
    }
  t.expect_close(y.data(), expected, bounds, what);
}

/* Scores of one page may be anything beside those of the pages before: a little more, much more, much less. */
static void try_steps(Test &t, const CacheType &c) {
  const Shape s{1, 1, 64, 0, 0};
  const float levels[] = {0, 6, 30, -60, 90};
  const int32_t tokens = 5 * FLX_PAGE;
  const Sequence x = random_sequence(s, tokens);
  for (int64_t i = 0; i < x.q.size(); i++) x.q[i] = 1 + x.q[i] / 64;
  for (int64_t i = 0; i < x.k.size(); i++) {
    const int64_t page = i / (s.kv_heads * s.head) / FLX_PAGE;
    x.k[i] = x.k[i] / 64 + levels[page] / (static_cast<float>(s.head) * x.scale);
  }
  const std::string name = std::string("attention ") + c.name + ", scores in steps: ";
  const Array<float> y = attend(t, c, x, {{0, tokens}});
  expect_attended(t, c, x, y, name + "values");
  t.expect_same(y, attend(t, c, x, {{0, 100}, {100, 1}, {101, tokens - 101}}), name + "pieces");
}

static void try_shape(Test &t, const CacheType &c, const Shape &s, int32_t tokens) {
  const std::string name = std::string("attention ") + c.name + " " + std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads of " +
                           std::to_string(s.head) + ", window " + std::to_string(s.window) + (s.sparsity < 1 ? ", sparsity " + std::to_string(s.sparsity) : "") + ": ";
  const Sequence x = random_sequence(s, tokens);
  const Array<float> y = attend(t, c, x, {{0, tokens}});
  expect_attended(t, c, x, y, name + "values");
  t.expect_same(y, attend(t, c, x, {{0, tokens}}, t.teams[0]), name + "one thread");
  t.expect_same(y, attend(t, c, x, {{0, 1}, {1, 63}, {64, 1}, {65, 2}, {67, tokens - 67}}, t.teams[2]), name + "pieces");
  t.expect_same(y, attend(t, c, x, {{0, 1}, {1, 65}, {66, tokens - 66}}, t.teams[2], true), name + "staged pages");
}

/* A key that is no number reaches those who see it, and no one else. */
static void try_wrong(Test &t, const CacheType &c) {
  const Shape s{2, 2, 64, 5, 0};
  const int32_t tokens = 70, wrong = 33;
  const Sequence x = random_sequence(s, tokens);
  const Array<float> clean = attend(t, c, x, {{0, tokens}});
  for (int32_t e = 0; e < s.head; e++) x.k[(wrong * s.kv_heads + 1) * s.head + e] = NAN;
  const Array<float> y = attend(t, c, x, {{0, tokens}});
  bool reached = true, kept = true;
  for (int32_t token = 0; token < tokens; token++)
    for (int32_t head = 0; head < s.heads; head++) {
      const int64_t at = (token * s.heads + head) * s.head;
      const bool sees = head == 1 && token >= wrong && token < wrong + s.window;
      for (int64_t i = at; i < at + s.head; i++) sees ? reached = reached && std::isnan(y[i]) : kept = kept && std::memcmp(&y[i], &clean[i], 4) == 0;
    }
  t.expect(reached, std::string("attention ") + c.name + ": a wrong key is seen");
  t.expect(kept, std::string("attention ") + c.name + ": a wrong key is not seen by others");
}

/* What is not chosen is not read: a value that is no number, of the least weight, reaches tokens of the prompt alone. */
static void try_unread(Test &t, const CacheType &c) {
  const Shape s{2, 1, 64, 0, 0, 0.5, 40};
  const int32_t tokens = 70, wrong = 3;
  const Sequence x = random_sequence(s, tokens);
  for (int64_t i = 0; i < x.q.size(); i++) x.q[i] = std::fabs(x.q[i]);
  for (int32_t e = 0; e < s.head; e++) x.k[wrong * s.head + e] = -4;
  const Array<float> clean = attend(t, c, x, {{0, tokens}});
  for (int32_t e = 0; e < s.head; e++) x.v[wrong * s.head + e] = NAN;
  const Array<float> y = attend(t, c, x, {{0, tokens}});
  const int64_t prompt = static_cast<int64_t>(s.prompt) * s.heads * s.head;
  t.expect(std::isnan(y[prompt - 1]), std::string("attention ") + c.name + ": a wrong value is seen by the prompt");
  t.expect(std::memcmp(&y[prompt], &clean[prompt], static_cast<size_t>(y.size() - prompt) * 4) == 0, std::string("attention ") + c.name + ": a wrong value is not read");
}

/* Equal weights: the earlier positions are chosen. */
static void try_equals(Test &t) {
  const Shape s{1, 1, 32, 0, 0, 0.25, 1};
  const int32_t tokens = 130;
  const Sequence x = random_sequence(s, tokens);
  for (int64_t i = 0; i < x.k.size(); i++) x.k[i] = 0.5f;
  for (int32_t token = 0; token < tokens; token++)
    for (int32_t e = 0; e < s.head; e++) x.v[token * s.head + e] = static_cast<float>(token + 1);
  const Array<float> y = attend(t, CACHES[0], x, {{0, tokens}});
  std::vector<double> expected(static_cast<size_t>(y.size())), bounds(expected.size());
  for (int32_t token = 0; token < tokens; token++) {
    const int32_t count = token < s.prompt ? token : token / 4;
    const double sum = count * (count + 1) / 2 + token + 1;
    for (int32_t e = 0; e < s.head; e++) {
      const size_t at = static_cast<size_t>(token * s.head + e);
      expected[at] = sum / (token + 1);
      bounds[at] = 4 * U * (token + 8) * expected[at];
    }
  }
  t.expect_close(y.data(), expected, bounds, "attention: earlier ones among equal weights");
}

/* Sparse, from every position on: none but the own one, few, most. */
static void try_sparse(Test &t, const CacheType &c) {
  if (c.group == 1) {
    try_shape(t, c, {3, 3, 20, 0, 0, 0.1, 66}, 135);
    try_shape(t, c, {2, 1, 7, 30, 5, 0.5, 1}, 70);
  }
  try_shape(t, c, {8, 1, 64, 0, 0, 0.3, 20}, 70);
  try_shape(t, c, {4, 2, 64, 66, 2.5f, 0.1, 64}, 200);
  try_shape(t, c, {3, 3, 128, 0, 0, 0.99, 3}, 80);
  try_shape(t, c, {2, 2, 192, 0, 0, 0.005, 65}, 135);
  try_unread(t, c);
}

void test_attention(Test &t) {
  try_equals(t);
  for (const CacheType &c : CACHES) {
    if (c.group == 1) {
      try_shape(t, c, {3, 3, 20, 0, 0}, 70);
      try_shape(t, c, {2, 1, 33, 9, 5}, 70);
    }
    try_shape(t, c, {8, 1, 64, 0, 0}, 70);
    try_shape(t, c, {4, 2, 64, 66, 2.5f}, 135);
    try_shape(t, c, {3, 3, 128, 0, 0}, 80);
    try_steps(t, c);
    try_wrong(t, c);
    try_sparse(t, c);
    attend(t, c, random_sequence({1, 1, 64, 0, 0}, 1), {{0, 0}});
  }
}
