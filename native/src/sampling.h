/* The parts of `flx_sample`: logits of one row after penalties and mask, block by block, and what filters keep of them. */
#pragma once
#include <cfloat>
#include <cstdint>
#include <limits>

#include "../flexllmgen.h"
#include "eight.h"

static constexpr int64_t BLOCK = FLX_SAMPLE_BLOCK;
static constexpr float NONE = -std::numeric_limits<float>::infinity();

/* One row's logits. Blocks that need nothing done are read where they lie; of the others a copy is changed in the cache. */
struct RowLogits {
  const flx_sample_row *row;
  int64_t vocabulary;
  int64_t blocks;
  bool changed; /* penalties or a mask apply */
  float *maxima; /* of each block, by `scan` */
  double *sums;  /* of each block */
  float best;
  int64_t best_id;
};

/* Tokens with a logit above `value`, and those with exactly `value` up to `last`. */
struct Cut {
  float value;
  int64_t last;
};

/* Every token that has a probability. */
static constexpr Cut KEEP_ALL = {-FLT_MAX, INT32_MAX};

/* exp((logit - best) / temperature) = 2^((logit - best) * scale) */
struct Weights {
  double best;
  double scale;
};

/* FLX_SAMPLE_BLOCK logits; behind the end of the vocabulary -Infinity. `wrong` becomes true where a logit is NaN or Infinity, allowed or not; may be null. */
const float *block_of(const RowLogits &logits, int64_t block, float *buffer, bool *wrong);
/* Finds maxima and best. False when a logit is NaN or Infinity, or none is left. */
bool scan(RowLogits &logits);
/* Sums the kept weights by blocks. Returns the total. */
double sum_blocks(const RowLogits &logits, const Weights &weights, const Cut &cut);
/* Weights of a block, 0 for what is not kept. */
void weigh_block(const RowLogits &logits, const Weights &weights, const Cut &cut, int64_t block, double *result);

/* `sums` becomes scratch. */
Cut top_k_cut(const RowLogits &logits, int64_t k);
/* `total` is that of what `before` keeps. */
Cut top_p_cut(const RowLogits &logits, const Weights &weights, const Cut &before, double p, double total);
/* Ids of the `count` largest logits, largest first, equals by id. Returns how many there are. */
int32_t largest_ids(const RowLogits &logits, int32_t count, int32_t *ids);

static inline void weigh_eight(const Weights &weights, const Floats &logits, Doubles &result) {
  const Doubles y = (__builtin_convertvector(logits, Doubles) - weights.best) * weights.scale;
  eight_powers_of_two(y, result);
}
