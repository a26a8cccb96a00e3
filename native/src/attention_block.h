/* Queries that read pages together, what each of them sees, and the steps of their softmax. */
#pragma once
#include <algorithm>
#include <cmath>

#include "activation.h"
#include "attention_cache.h"

/* Queries of a block at most: the more, the less is loaded; their results stay in the second cache. */
static constexpr int64_t BLOCK_QUERIES = 8 * QUERIES;

/*
 * The same `count` queries of one kv head, or of a few that follow each other: query i is token i / group of the row, head i % group of those that share
 * the kv head. In memory it is in place h * count + i, less than BLOCK_QUERIES.
 */
struct Block {
  const flx_row *row;
  int64_t kv_head;
  int64_t kv_heads;
  int64_t first; /* query */
  int64_t count;
  /* Its queries are of tokens that decode, with sparse attention. */
  bool sparse;
};

/* Of one kv head, whose pages have `bytes`; `staged` may be null. */
static inline HeadPages pages_of(const flx_attention &a, const void *cache, const void *staged, const flx_row *row, int64_t kv_head, int64_t bytes) {
  const auto head_of = [&](const void *all) { return all ? static_cast<const uint8_t *>(all) + kv_head * bytes : nullptr; };
  return {head_of(cache), head_of(staged), row->pages, a.kv_heads * bytes};
}

static inline HeadPages keys_of(const flx_attention &a, const flx_row *row, int64_t kv_head, int64_t bytes) {
  return pages_of(a, a.keys, a.staged_keys, row, kv_head, bytes);
}

static inline HeadPages values_of(const flx_attention &a, const flx_row *row, int64_t kv_head, int64_t bytes) {
  return pages_of(a, a.values, a.staged_values, row, kv_head, bytes);
}

static inline int64_t padded(int64_t head) { return (head + LANES - 1) / LANES * LANES; }

/* Floats before the query and the result in place `place` of a block. */
static inline int64_t offset_of(const flx_attention &a, const Block &block, int64_t place) {
  const int64_t group = a.heads / a.kv_heads, query = block.first + place % block.count, kv_head = block.kv_head + place / block.count;
  return ((block.row->first + query / group) * a.heads + kv_head * group + query % group) * a.head;
}

/* Positions of a tile that query `query` of a block sees. */
static inline Range seen_by(const flx_attention &a, const Block &block, int64_t query, int64_t tile) {
  const int64_t position = block.row->start + (block.first + query) / (a.heads / a.kv_heads) - tile * FLX_PAGE;
  const int64_t from = a.window > 0 ? std::max<int64_t>(0, position + 1 - a.window) : 0;
  return {from, std::min<int64_t>(FLX_PAGE, position + 1)};
}

static inline Range seen_by_all(const flx_attention &a, const Block &block, int64_t first, int64_t rows, int64_t tile) {
  return {seen_by(a, block, first, tile).from, seen_by(a, block, first + rows - 1, tile).to};
}

static inline void cap(const flx_attention &a, float *scores, const Range &seen) {
  for (int64_t p = seen.from; p < seen.to; p++) scores[p] = a.softcap * std::tanh(scores[p] / a.softcap);
}

static inline void scale_row(const float *x, int64_t count, float factor, float *y) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) f_store(y + i, f_mul(f_load(x + i), f_set(factor)));
  for (; i < count; i++) y[i] = x[i] * factor;
}

/* Scores of what a query does not see become `value`, in `columns`, which are whole vectors. */
static inline void fill_unseen(float *scores, const Range &seen, const Range &columns, float value) {
  for (int64_t i = columns.from; i < std::min(seen.from, columns.to); i++) scores[i] = value;
  for (int64_t i = std::max(seen.to, columns.from); i < columns.to; i++) scores[i] = value;
}

static inline float largest_of(const float *scores, const Range &columns) {
  F largest = f_load(scores + columns.from);
  for (int64_t i = columns.from + LANES; i < columns.to; i += LANES) largest = f_max(largest, f_load(scores + i));
  return f_largest(largest);
}

/* Lanes that are not from `from` to `to` become 0. */
static inline F only(F v, int64_t from, int64_t to) {
  float lanes[LANES];
  f_store(lanes, v);
  for (int64_t i = 0; i < LANES; i++)
    if (i < from || i >= to) lanes[i] = 0;
  return f_load(lanes);
}

/* Scores become exp(score - most). Returns their sum: vectors are added one to the other, then their lanes, so that what is 0 may be left out. */
static inline float exponentials(float *scores, const Range &seen, const Range &columns, float most) {
  F total = f_set(0);
  for (int64_t i = columns.from; i < columns.to; i += LANES) {
    F weights = f_exp(f_sub(f_load(scores + i), f_set(most)));
    /* exp of minus infinity is tiny, but not nothing */
    if (i < seen.from || i + LANES > seen.to) weights = only(weights, seen.from - i, seen.to - i);
    f_store(scores + i, weights);
    total = f_add(total, weights);
  }
  return f_sum(total);
}
