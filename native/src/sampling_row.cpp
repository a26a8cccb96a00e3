/* Logits of one row: penalties, mask, maxima and sums of weights by blocks. */
#include <algorithm>

#include "sampling.h"

/* As src/sampling/penalties.ts does it, in f64 and rounded once. */
static void penalise(const flx_sample_row &row, int64_t begin, int64_t count, float *values) {
  const int32_t *end = row.ids + row.tokens;
  for (const int32_t *id = std::lower_bound(row.ids, end, static_cast<int32_t>(begin)); id < end && *id < begin + count; id++) {
    const double x = static_cast<double>(values[*id - begin]);
    const double repeated = x > 0 ? x / row.repetition : x * row.repetition;
    const int32_t times = row.counts[id - row.ids];
    values[*id - begin] = static_cast<float>(times > 0 ? repeated - (times * row.frequency + row.presence) : repeated);
  }
}

static void apply_mask(const flx_sample_row &row, int64_t begin, int64_t count, float *values) {
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t word = (begin + i) / 32;
    const uint32_t allowed = word < row.mask_words ? row.mask[word] : 0;
    for (int64_t j = i; j < count && j < i + 32; j++)
      if (!(allowed >> (j - i) & 1)) values[j] = NONE;
  }
}

/* The largest of a block; `wrong` becomes true where one is NaN or Infinity. */
static float largest_of(const float *values, bool *wrong) {
  Floats largest[4];
  Integers finite[4];
  for (int j = 0; j < 4; j++) {
    load_eight(values + j * EIGHT, largest[j]);
    finite[j] = largest[j] < std::numeric_limits<float>::infinity();
  }
  for (int64_t i = 4 * EIGHT; i < BLOCK; i += 4 * EIGHT)
    for (int j = 0; j < 4; j++) {
      Floats x;
      load_eight(values + i + j * EIGHT, x);
      finite[j] &= x < std::numeric_limits<float>::infinity();
      largest[j] = x > largest[j] ? x : largest[j];
    }
  const Integers all = (finite[0] & finite[1]) & (finite[2] & finite[3]);
  if (lanes_of(all) != 0xff) *wrong = true;
  for (int j = 1; j < 4; j++) largest[0] = largest[j] > largest[0] ? largest[j] : largest[0];
  float result = NONE;
  for (int i = 0; i < EIGHT; i++) result = largest[0][i] > result ? largest[0][i] : result;
  return result;
}

const float *block_of(const RowLogits &logits, int64_t block, float *buffer, bool *wrong) {
  const flx_sample_row &row = *logits.row;
  const int64_t begin = block * BLOCK, count = std::min(BLOCK, logits.vocabulary - begin);
  if (!logits.changed && count == BLOCK) return row.logits + begin;
  std::copy_n(row.logits + begin, count, buffer);
  std::fill(buffer + count, buffer + BLOCK, NONE);
  if (!logits.changed) return buffer;
  if (row.tokens > 0) penalise(row, begin, count, buffer);
  if (!row.mask) return buffer;
  if (wrong) largest_of(buffer, wrong);
  apply_mask(row, begin, count, buffer);
  return buffer;
}

bool scan(RowLogits &logits) {
  float buffer[BLOCK];
  bool wrong = false;
  int64_t best_block = -1;
  logits.best = NONE;
  for (int64_t block = 0; block < logits.blocks; block++) {
    const float largest = largest_of(block_of(logits, block, buffer, &wrong), &wrong);
    logits.maxima[block] = largest;
    if (largest > logits.best) {
      logits.best = largest;
      best_block = block;
    }
  }
  if (wrong || best_block < 0) return false;
  const float *values = block_of(logits, best_block, buffer, nullptr);
  logits.best_id = best_block * BLOCK + (std::find(values, values + BLOCK, logits.best) - values);
  return true;
}

/* Lanes of eight logits from `id` on that a cut keeps. */
static inline void kept_lanes(const Floats &values, const Cut &cut, int64_t id, Integers &result) {
  const Integers ids = static_cast<int32_t>(id) + Integers{0, 1, 2, 3, 4, 5, 6, 7};
  result = (values > cut.value) | ((values == cut.value) & (ids <= static_cast<int32_t>(cut.last)));
}

/* The sum of a block's weights, all of them. */
static double sum_block(const float *values, const Weights &weights) {
  const Weights own = weights; /* in registers */
  Doubles sum = {};
  for (int64_t i = 0; i < BLOCK; i += EIGHT) {
    Floats x;
    Doubles weight;
    load_eight(values + i, x);
    weigh_eight(own, x, weight);
    sum += weight;
  }
  return sum_of_eight(sum);
}

/* Eight weights of a block, 0 for what is not kept. False when nothing is. */
static inline bool weigh_kept(const float *values, const Weights &weights, const Cut &cut, int64_t id, Doubles &weight) {
  Floats x;
  Integers kept;
  load_eight(values, x);
  kept_lanes(x, cut, id, kept);
  if (lanes_of(kept) == 0) return false;
  weigh_eight(weights, x, weight);
  weight = (Doubles)((Longs)weight & __builtin_convertvector(kept, Longs));
  return true;
}

static double sum_block_kept(const float *values, const Weights &weights, const Cut &cut, int64_t first) {
  Doubles sum = {}, weight;
  for (int64_t i = 0; i < BLOCK; i += EIGHT)
    if (weigh_kept(values + i, weights, cut, first + i, weight)) sum += weight;
  return sum_of_eight(sum);
}

double sum_blocks(const RowLogits &logits, const Weights &weights, const Cut &cut) {
  float buffer[BLOCK];
  const bool all = cut.value == KEEP_ALL.value && cut.last == KEEP_ALL.last;
  double total = 0;
  for (int64_t block = 0; block < logits.blocks; block++) {
    double sum = 0;
    if (logits.maxima[block] >= cut.value) {
      const float *values = block_of(logits, block, buffer, nullptr);
      sum = all ? sum_block(values, weights) : sum_block_kept(values, weights, cut, block * BLOCK);
    }
    logits.sums[block] = sum;
    total += sum;
  }
  return total;
}

void weigh_block(const RowLogits &logits, const Weights &weights, const Cut &cut, int64_t block, double *result) {
  float buffer[BLOCK];
  const float *values = block_of(logits, block, buffer, nullptr);
  std::fill_n(result, BLOCK, 0.0);
  Doubles weight;
  for (int64_t i = 0; i < BLOCK; i += EIGHT)
    if (weigh_kept(values + i, weights, cut, block * BLOCK + i, weight)) std::memcpy(result + i, &weight, sizeof weight);
}
