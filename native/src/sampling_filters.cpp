/* What top-k and top-p keep, found without sorting. */
#include <algorithm>
#include <cmath>

#include "sampling.h"

/* Bits of a key that each round of a search looks at, highest first. */
static constexpr struct {
  int shift;
  int bits;
} DIGITS[] = {{21, 11}, {10, 11}, {0, 10}};
static constexpr int MOST_SLOTS = 1 << 11;

/* Grows with the float; the same for both zeros. */
static inline uint32_t key_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if (bits == 0x80000000u) return bits;
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static float float_of(uint32_t key) {
  const uint32_t bits = key & 0x80000000u ? key & 0x7fffffffu : ~key;
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

/* Calls work(id, logit, weight) for every token with a logit in [low, high], by id. Without WEIGHED the weight is 1. */
template <bool WEIGHED, class Work>
static void each_between(const RowLogits &logits, const Weights &weights, float low, float high, const Work &work) {
  float buffer[BLOCK];
  for (int64_t block = 0; block < logits.blocks; block++) {
    if (!(logits.maxima[block] >= low)) continue;
    const float *values = block_of(logits, block, buffer, nullptr);
    for (int64_t i = 0; i < BLOCK; i += EIGHT) {
      Floats x;
      load_eight(values + i, x);
      const Integers inside = (x >= low) & (x <= high);
      uint32_t lanes = lanes_of(inside);
      if (lanes == 0) continue;
      double weight[EIGHT] = {1, 1, 1, 1, 1, 1, 1, 1};
      if (WEIGHED) {
        Doubles eight;
        weigh_eight(weights, x, eight);
        std::memcpy(weight, &eight, sizeof weight);
      }
      for (; lanes != 0; lanes &= lanes - 1) {
        const int lane = __builtin_ctz(lanes);
        work(block * BLOCK + i + lane, values[i + lane], weight[lane]);
      }
    }
  }
}

/* The logit down to which the weights from the top sum to a target. */
struct Found {
  float value;
  double above; /* weights of larger logits */
  bool reached;
};

/*
 * Sums weights by the highest bits of their logits, then those with the bits at which the sum passes the target by the next ones. Only logits of at
 * least `low` take part. If the target is reached, smaller logits would not have changed anything.
 */
template <bool WEIGHED> static Found find_value(const RowLogits &logits, const Weights &weights, float low, double target) {
  double sums[MOST_SLOTS];
  double above = 0;
  uint32_t prefix = 0;
  bool reached = true;
  for (const auto &digit : DIGITS) {
    const int rest = digit.shift + digit.bits;
    const uint32_t last = (1u << digit.bits) - 1;
    float least = low, most = FLT_MAX;
    if (rest < 32) {
      least = std::max(low, float_of(prefix << rest));
      const float end = float_of(prefix << rest | ((1u << rest) - 1));
      if (end < FLT_MAX) most = end;
    }
    std::fill_n(sums, last + 1, 0.0);
    each_between<WEIGHED>(logits, weights, least, most, [&](int64_t, float x, double weight) {
      const uint32_t key = key_of(x);
      if (rest < 32 && key >> rest != prefix) return;
      sums[key >> digit.shift & last] += weight;
    });
    int64_t slot = -1;
    bool passed = false;
    /* The last one with a weight ends the search, as rounding may leave the target out of reach. */
    for (int64_t i = last; i >= 0 && !passed; i--) {
      if (sums[i] == 0) continue;
      if (slot >= 0) above += sums[slot];
      slot = i;
      passed = above + sums[i] >= target;
    }
    reached = reached && passed;
    prefix = prefix << digit.bits | static_cast<uint32_t>(std::max<int64_t>(slot, 0));
  }
  return {float_of(prefix), above, reached};
}

Cut top_k_cut(const RowLogits &logits, int64_t k) {
  if (k >= logits.vocabulary) return KEEP_ALL;
  float low = KEEP_ALL.value;
  /* At least k logits are no smaller than the k-th largest maximum. */
  if (k <= logits.blocks) {
    float *copy = reinterpret_cast<float *>(logits.sums);
    std::copy_n(logits.maxima, logits.blocks, copy);
    std::nth_element(copy, copy + (k - 1), copy + logits.blocks, [](float a, float b) { return a > b; });
    low = std::max(low, copy[k - 1]);
  }
  const Found found = find_value<false>(logits, {}, low, static_cast<double>(k));
  return found.reached ? Cut{found.value, KEEP_ALL.last} : KEEP_ALL;
}

/* All smaller logits together have less than half of what top-p leaves out, if nothing is rounded. */
static float least_logit(const RowLogits &logits, const Weights &weights, double p, double total) {
  const double weight = 0.5 * (1 - p) * total / static_cast<double>(logits.vocabulary);
  return static_cast<float>(weights.best + std::log2(weight) / weights.scale);
}

/* The fewer logits take part, the sooner it is found; all of them do only where rounded sums do not reach the target otherwise. */
static Found find_top_p(const RowLogits &logits, const Weights &weights, float low, double p, double total) {
  const double target = p * total;
  const Found found = find_value<true>(logits, weights, std::max(low, least_logit(logits, weights, p, total)), target);
  return found.reached ? found : find_value<true>(logits, weights, low, target);
}

Cut top_p_cut(const RowLogits &logits, const Weights &weights, const Cut &before, double p, double total) {
  const Found found = find_top_p(logits, weights, before.value, p, total);
  double sum = 0;
  int64_t last = -1;
  bool done = false;
  each_between<true>(logits, weights, found.value, found.value, [&](int64_t id, float, double weight) {
    if (done || weight == 0) return;
    last = id;
    sum += weight;
    done = sum >= p * total - found.above;
  });
  return {found.value, last};
}

int32_t largest_ids(const RowLogits &logits, int32_t count, int32_t *ids) {
  float values[FLX_SAMPLE_TOP];
  float buffer[BLOCK];
  int32_t size = 0;
  float smallest = NONE;
  for (int64_t block = 0; block < logits.blocks && count > 0; block++) {
    if (logits.maxima[block] <= smallest) continue;
    const float *from = block_of(logits, block, buffer, nullptr);
    for (int64_t i = 0; i < BLOCK; i += EIGHT) {
      Floats eight;
      load_eight(from + i, eight);
      const Integers larger = eight > smallest;
      for (uint32_t lanes = lanes_of(larger); lanes != 0; lanes &= lanes - 1) {
        const int64_t lane = i + __builtin_ctz(lanes);
        const float x = from[lane];
        if (x <= smallest) continue;
        int32_t at = size < count ? size++ : count - 1;
        for (; at > 0 && values[at - 1] < x; at--) {
          values[at] = values[at - 1];
          ids[at] = ids[at - 1];
        }
        values[at] = x;
        ids[at] = static_cast<int32_t>(block * BLOCK + lane);
        if (size == count) smallest = values[count - 1];
      }
    }
  }
  return size;
}
