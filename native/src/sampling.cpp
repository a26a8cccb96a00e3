/* Chooses tokens. The same operations in the same order as src/sampling/, which is the reference: both choose the same ids. */
#include <algorithm>

#include "sampling.h"
#include "team.h"

static constexpr double LOG2_E = 1.4426950408889634;
/* So that 0 times it stays 0 at temperatures whose inverse is no number. */
static constexpr double MOST_SCALE = 1e300;

/* The id of a block at which the sum of weights passes `left`; the last with a weight if rounding leaves it out of reach. */
static int64_t draw_in_block(const RowLogits &logits, const Weights &weights, const Cut &cut, int64_t block, double left) {
  double weight[BLOCK];
  weigh_block(logits, weights, cut, block, weight);
  double sum = 0;
  int64_t last = -1;
  for (int64_t i = 0; i < BLOCK; i++) {
    if (weight[i] == 0) continue;
    last = block * BLOCK + i;
    sum += weight[i];
    if (sum > left) break;
  }
  return last;
}

/* Inverse of the cumulative distribution over the kept ids in rising order. `sums` has the weights of the blocks. */
static int64_t draw(const RowLogits &logits, const Weights &weights, const Cut &cut, double total) {
  double left = logits.row->uniform * total;
  int64_t last = -1;
  for (int64_t block = 0; block < logits.blocks; block++) {
    const double sum = logits.sums[block];
    if (sum == 0) continue;
    last = block;
    if (left < sum) break;
    left -= sum;
  }
  return last < 0 ? -1 : draw_in_block(logits, weights, cut, last, left);
}

static Cut stronger(const Cut &a, const Cut &b) {
  if (a.value != b.value) return a.value > b.value ? a : b;
  return a.last < b.last ? a : b;
}

/* `plain` becomes the sum of all weights where temperature 1 was all that was asked for; it is that of the log-probabilities too. */
static int64_t choose(const RowLogits &logits, double &plain) {
  const flx_sample_row &row = *logits.row;
  if (row.temperature == 0) return logits.best_id;
  const Weights weights = {static_cast<double>(logits.best), std::min(LOG2_E / row.temperature, MOST_SCALE)};
  Cut cut = row.top_k > 0 ? top_k_cut(logits, row.top_k) : KEEP_ALL;
  double total = 0;
  bool summed = false;
  if (row.top_p < 1) {
    total = sum_blocks(logits, weights, cut);
    if (cut.value == KEEP_ALL.value && row.temperature == 1) plain = total;
    cut = top_p_cut(logits, weights, cut, row.top_p, total);
  } else if (cut.value == KEEP_ALL.value && row.log_min_p == -std::numeric_limits<double>::infinity()) {
    total = sum_blocks(logits, weights, cut);
    if (row.temperature == 1) plain = total;
    summed = true;
  }
  if (row.log_min_p > -std::numeric_limits<double>::infinity())
    cut = stronger(cut, {static_cast<float>(weights.best + row.temperature * row.log_min_p), KEEP_ALL.last});
  if (!summed) total = sum_blocks(logits, weights, cut);
  return draw(logits, weights, cut, total);
}

static void sample_row(const flx_sample_row &row, int64_t vocabulary, char *scratch, flx_sample_result &result) {
  const int64_t blocks = (vocabulary + BLOCK - 1) / BLOCK;
  double *sums = reinterpret_cast<double *>(scratch);
  const bool changed = row.mask || row.tokens > 0;
  RowLogits logits = {&row, vocabulary, blocks, changed, reinterpret_cast<float *>(sums + blocks), sums, NONE, -1};
  double plain = 0;
  result.id = row.known;
  result.count = 0;
  bool scanned = false;
  if (row.known < 0) {
    scanned = scan(logits);
    result.id = scanned ? static_cast<int32_t>(choose(logits, plain)) : -1;
  }
  if (row.alternatives < 0 || result.id < 0) return;
  if (changed || !scanned) {
    logits.changed = false;
    plain = 0;
    if (!scan(logits)) {
      result.id = -1;
      return;
    }
  }
  result.best = logits.best;
  result.sum = plain > 0 ? plain : sum_blocks(logits, {static_cast<double>(logits.best), LOG2_E}, KEEP_ALL);
  result.count = largest_ids(logits, std::min<int32_t>(row.alternatives, FLX_SAMPLE_TOP), result.top);
}

/* Whole cache lines, so that no two threads write to one. */
static int64_t scratch_bytes(int64_t vocabulary) { return ((vocabulary + BLOCK - 1) / BLOCK * 12 + 63) / 64 * 64; }

extern "C" int64_t flx_sample_scratch_bytes(int64_t vocabulary, int64_t count) { return scratch_bytes(vocabulary) * count; }

extern "C" int64_t flx_sample_row_bytes(void) { return sizeof(flx_sample_row); }

extern "C" int64_t flx_sample_result_bytes(void) { return sizeof(flx_sample_result); }

extern "C" void flx_sample(flx_team *team, const flx_sample_row *rows, int64_t count, int64_t vocabulary, void *scratch, flx_sample_result *results) {
  const int64_t bytes = scratch_bytes(vocabulary);
  parallel(team, count, [&](int64_t i) { sample_row(rows[i], vocabulary, static_cast<char *>(scratch) + i * bytes, results[i]); });
}
