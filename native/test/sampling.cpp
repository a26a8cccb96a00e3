/* Choice of tokens: greedy, by filters, refused rows, log-probabilities. The naive side sorts all ids. */
#include <algorithm>
#include <numeric>

#include "harness.h"

static constexpr double LARGEST = 1;

namespace {
struct Case {
  const char *name;
  double temperature;
  int64_t top_k;
  double top_p;
  double min_p;
  bool masked;
  bool penalised;
};
} // namespace

static flx_sample_row row_of(const float *logits) {
  flx_sample_row row{};
  row.logits = logits;
  row.repetition = 1;
  row.top_p = LARGEST;
  row.log_min_p = -INFINITY;
  row.known = -1;
  row.alternatives = -1;
  return row;
}

static std::vector<flx_sample_result> sample(const Test &t, const std::vector<flx_sample_row> &rows, int64_t vocabulary) {
  std::vector<flx_sample_result> results(rows.size());
  const int64_t count = static_cast<int64_t>(rows.size());
  const Array<double> scratch((t.lib.sample_scratch_bytes(vocabulary, count) + 7) / 8);
  t.lib.sample(t.teams[1], rows.data(), count, vocabulary, scratch.data(), results.data());
  return results;
}

static std::vector<int32_t> by_size(const std::vector<double> &logits) {
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(), [&](int32_t a, int32_t b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  return ids;
}

/* The id that the row's number falls on, or -1 where it is too near to a border to say. */
static int32_t choose_naively(const flx_sample_row &row, std::vector<double> logits) {
  const std::vector<int32_t> order = by_size(logits);
  if (row.temperature == 0) return order[0];
  const double best = logits[static_cast<size_t>(order[0])];
  size_t kept = row.top_k > 0 ? std::min<size_t>(static_cast<size_t>(row.top_k), order.size()) : order.size();
  const auto weight = [&](int32_t id) { return std::exp((logits[static_cast<size_t>(id)] - best) / row.temperature); };
  const auto total = [&] {
    double sum = 0;
    for (size_t i = 0; i < kept; i++) sum += weight(order[i]);
    return sum;
  };
  if (row.top_p < LARGEST) {
    const double wanted = row.top_p * total();
    double sum = 0;
    size_t i = 0;
    while (i < kept && sum < wanted) sum += weight(order[i++]);
    if (std::fabs(sum - wanted) < 1e-9 * wanted) return -1;
    kept = i;
  }
  while (kept > 1 && std::log(weight(order[kept - 1])) < row.log_min_p) kept--;
  std::vector<int32_t> ids(order.begin(), order.begin() + static_cast<int64_t>(kept));
  std::sort(ids.begin(), ids.end());
  const double wanted = row.uniform * total();
  double sum = 0;
  for (const int32_t id : ids) {
    sum += weight(id);
    if (std::fabs(sum - wanted) < 1e-9 * wanted) return -1;
    if (sum > wanted) return id;
  }
  return -1;
}

static void try_case(Test &t, const Case &c, int64_t vocabulary) {
  Random random(71);
  const int64_t rows = 24;
  const Array<float> logits = random_floats(random, rows * vocabulary, -4, 4);
  const Array<uint32_t> mask((vocabulary + 31) / 32);
  for (int64_t i = 0; i < mask.size(); i++) mask[i] = static_cast<uint32_t>(random.bits());
  mask[0] |= 1;
  const Array<int32_t> ids(std::min<int64_t>(3, vocabulary)), counts(ids.size());
  for (int64_t i = 0; i < ids.size(); i++) {
    ids[i] = static_cast<int32_t>(i * (vocabulary - 1) / 2);
    counts[i] = static_cast<int32_t>(i);
  }
  std::vector<flx_sample_row> all;
  for (int64_t i = 0; i < rows; i++) {
    flx_sample_row row = row_of(&logits[i * vocabulary]);
    row.temperature = c.temperature;
    row.top_k = c.top_k;
    row.top_p = c.top_p;
    row.log_min_p = std::log(c.min_p);
    row.uniform = random.uniform();
    row.mask = c.masked ? mask.data() : nullptr;
    row.mask_words = c.masked ? mask.size() : 0;
    if (c.penalised) {
      row.ids = ids.data();
      row.counts = counts.data();
      row.tokens = ids.size();
      row.repetition = 1.5;
      row.presence = 0.75;
      row.frequency = 0.25;
    }
    all.push_back(row);
  }
  const std::vector<flx_sample_result> results = sample(t, all, vocabulary);
  int wrong = 0, unclear = 0;
  for (int64_t i = 0; i < rows; i++) {
    std::vector<double> own(&logits[i * vocabulary], &logits[i * vocabulary] + vocabulary);
    for (int64_t j = 0; c.penalised && j < ids.size(); j++) {
      double &logit = own[static_cast<size_t>(ids[j])];
      logit = logit > 0 ? logit / 1.5 : logit * 1.5;
      if (counts[j] > 0) logit -= 0.75 + 0.25 * counts[j];
    }
    for (int64_t id = 0; c.masked && id < vocabulary; id++)
      if (!(mask[id / 32] >> (id % 32) & 1)) own[static_cast<size_t>(id)] = -INFINITY;
    const int32_t id = choose_naively(all[static_cast<size_t>(i)], own);
    unclear += id < 0;
    wrong += id >= 0 && results[static_cast<size_t>(i)].id != id;
  }
  t.expect(wrong == 0 && unclear < 2, std::string("sampling ") + c.name + " of " + std::to_string(vocabulary) + ": " + std::to_string(wrong) + " wrong, " +
                                        std::to_string(unclear) + " unclear");
}

static void try_refused(Test &t) {
  Random random(73);
  const int64_t vocabulary = 777;
  const Array<float> clean = random_floats(random, vocabulary), nan = random_floats(random, vocabulary), infinite = random_floats(random, vocabulary);
  const Array<float> equal = random_floats(random, vocabulary), none = random_floats(random, vocabulary);
  nan[776] = NAN;
  infinite[300] = INFINITY;
  equal[511] = equal[90] = equal[700] = 2;
  std::fill(none.data(), none.data() + vocabulary, -INFINITY);
  const uint32_t nothing = 0;
  std::vector<flx_sample_row> rows = {row_of(clean.data()), row_of(nan.data()), row_of(infinite.data()), row_of(equal.data()), row_of(none.data())};
  rows.push_back(rows[0]);
  rows[5].mask = &nothing;
  rows[5].mask_words = 1;
  const std::vector<flx_sample_result> results = sample(t, rows, vocabulary);
  const int32_t best = static_cast<int32_t>(std::max_element(clean.data(), clean.data() + vocabulary) - clean.data());
  const int32_t expected[] = {best, -1, -1, 90, -1, -1};
  for (size_t i = 0; i < rows.size(); i++) t.expect(results[i].id == expected[i], "greedy: row " + std::to_string(i));
  t.lib.sample(t.teams[1], rows.data(), 0, vocabulary, nullptr, nullptr);
}

static void try_probabilities(Test &t, int64_t vocabulary) {
  Random random(79);
  const Array<float> logits = random_floats(random, vocabulary, -5, 5);
  flx_sample_row row = row_of(logits.data());
  row.known = static_cast<int32_t>(vocabulary / 2);
  row.alternatives = FLX_SAMPLE_TOP;
  const flx_sample_result result = sample(t, {row}, vocabulary)[0];
  const std::vector<int32_t> order = by_size({logits.data(), logits.data() + vocabulary});
  double sum = 0;
  for (int64_t i = 0; i < vocabulary; i++) sum += std::exp(static_cast<double>(logits[i] - logits[order[0]]));
  const size_t count = std::min<size_t>(FLX_SAMPLE_TOP, static_cast<size_t>(vocabulary));
  const bool top = result.count == static_cast<int32_t>(count) && std::equal(order.begin(), order.begin() + static_cast<int64_t>(count), result.top);
  t.expect(result.id == row.known && result.best == logits[order[0]] && top, "log-probabilities of " + std::to_string(vocabulary) + ": ids");
  t.expect(std::fabs(result.sum - sum) < 1e-6 * sum, "log-probabilities of " + std::to_string(vocabulary) + ": sum");
}

void test_sampling(Test &t) {
  const Case cases[] = {
    {"greedy", 0, 0, 1, 0, false, false},          {"greedy with mask", 0, 0, 1, 0, true, false},  {"greedy with penalties", 0, 0, 1, 0, true, true},
    {"temperature 1", 1, 0, 1, 0, false, false},   {"temperature 0.3", 0.3, 0, 1, 0, true, false}, {"top-k", 1.5, 5, 1, 0, false, false},
    {"top-p", 1, 0, 0.7, 0, false, true},          {"min-p", 2, 0, 1, 0.2, false, false},          {"all of them", 0.8, 40, 0.9, 0.05, true, true},
  };
  for (const Case &c : cases)
    for (const int64_t vocabulary : {1, 31, 256, 4095}) try_case(t, c, vocabulary);
  try_refused(t);
  for (const int64_t vocabulary : {1, 33, 4095}) try_probabilities(t, vocabulary);
}
