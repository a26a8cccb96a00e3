/*
 * All keys of a block come first, then, query by query, softmax over everything that it sees, the choice, and the values of what was chosen. No step of a
 * query knows of another one.
 */
#include "attention_sparse.h"

#include <cstring>
#include <vector>

/* Scores of a block at most, 1 MiB, unless a single query has more. */
static constexpr int64_t MOST_SCORES = int64_t{1} << 18;
/* Values are asked for so many positions before they are multiplied: they lie apart, so the processor does not see them coming. */
static constexpr int64_t AHEAD = 8;

namespace {
/* Of one thread, for one block of queries. */
struct SparseMemory {
  std::vector<float> q, scores, weights, factors, leasts, out;
  std::vector<int32_t> positions;
};
} // namespace

static thread_local SparseMemory memory;

int64_t most_sparse(int64_t length) {
  const int64_t row = (length + FLX_PAGE - 1) / FLX_PAGE * FLX_PAGE;
  return std::min(BLOCK_QUERIES, std::max<int64_t>(1, MOST_SCORES / row));
}

/* Scores of a tile for all queries of a block go to `scores` [place, length]. */
template <class Cache> static void score_tile(const flx_attention &a, const Block &block, int64_t tile, int64_t last, float *scores, int64_t length) {
  for (int64_t h = 0; h < block.kv_heads; h++) {
    const HeadPages keys = keys_of(a, block.row, block.kv_head + h, Cache::page_bytes(a.head));
    const uint8_t *page = keys.holding(tile * FLX_PAGE), *next = keys.holding(std::min(tile + 1, last) * FLX_PAGE);
    for (int64_t first = 0; first < block.count; first += QUERIES) {
      const int64_t rows = std::min<int64_t>(QUERIES, block.count - first), place = h * block.count + first;
      const Range all = seen_by_all(a, block, first, rows, tile);
      if (all.from >= all.to) continue;
      const Range columns{all.from / LANES * LANES, padded(all.to)};
      float products[QUERIES * FLX_PAGE] = {};
      Cache::scores({memory.q.data() + place * a.head, rows, a.head}, page, columns, products, next);
      for (int64_t r = 0; r < rows; r++)
        std::copy(products + r * FLX_PAGE + columns.from, products + r * FLX_PAGE + columns.to, scores + (place + r) * length + columns.from);
    }
  }
}

static int64_t count_from(const float *weights, const Range &of, float least) {
  int32_t count = 0;
  for (int64_t p = of.from; p < of.to; p++) count += weights[p] >= least;
  return count;
}

/*
 * The largest number that at least k weights reach, bit by bit from the highest one: as bits, positive floats are in order. Ends before the last bit where
 * exactly k weights reach a number.
 */
static float least_of_largest(const float *weights, const Range &of, int64_t k) {
  float least = 0;
  uint32_t bits = 0;
  for (int bit = 29; bit >= 0; bit--) { /* weights are 1 at most, 0x3f800000 */
    const uint32_t higher = bits | uint32_t{1} << bit;
    float candidate;
    std::memcpy(&candidate, &higher, sizeof candidate);
    const int64_t count = count_from(weights, of, candidate);
    if (count < k) continue;
    bits = higher;
    least = candidate;
    if (count == k) break;
  }
  return least;
}

/*
 * The k positions of `past` with the largest weights, the earlier ones among equals, in their order. Returns how many: weights that are no numbers are
 * not chosen.
 */
static int64_t choose(const float *weights, const Range &past, int64_t k, int32_t *positions) {
  if (k == 0) return 0;
  const float least = least_of_largest(weights, past, k);
  int64_t equals = k - count_from(weights, past, std::nextafter(least, 2.f)), count = 0;
  for (int64_t p = past.from / LANES * LANES; p < past.to; p += LANES)
    for (uint32_t bits = f_reaches(f_load(weights + p), f_set(least)); bits != 0; bits &= bits - 1) {
      const int64_t position = p + __builtin_ctz(bits);
      if (position < past.from || position >= past.to || (weights[position] == least && equals-- <= 0)) continue;
      positions[count++] = static_cast<int32_t>(position);
    }
  return count;
}

/* Sums of V vectors of columns from `column` on; PART: the last columns, less than a vector. `stride`: floats between the factors of groups. */
template <class Cache, int V, bool PART = false>
static void add_columns(const HeadPages &values, const Chosen &chosen, int64_t head, int64_t stride, int64_t column) {
  constexpr int EACH = Cache::GROUP > LANES ? Cache::GROUP / LANES : V;
  const int64_t group = Cache::GROUP > 0 ? column / Cache::GROUP : 0;
  const float *factors = memory.factors.data() + group * stride;
  F sums[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) sums[v] = f_set(memory.leasts[static_cast<size_t>(group + v / EACH)]);
  for (int64_t i = 0; i < chosen.count; i++) {
    const int64_t next = chosen.positions[std::min(i + AHEAD, chosen.count - 1)], position = chosen.positions[i];
    Cache::ask_for_value(values.holding(next), head, next % FLX_PAGE, column, V * LANES);
    const uint8_t *page = values.holding(position);
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      const F value = Cache::template value_at<PART>(page, head, position % FLX_PAGE, column + v * LANES);
      sums[v] = f_fma(value, f_set(factors[v / EACH * stride + i]), sums[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) f_store(memory.out.data() + column + v * LANES, sums[v]);
}

/* memory.out [padded head] = the sum over the chosen positions of weight * value, in their order. */
template <class Cache> static void add_chosen(const HeadPages &values, const Chosen &chosen, int64_t head) {
  const int64_t groups = Cache::GROUP > 0 ? head / Cache::GROUP : 1, stride = padded(chosen.count);
  memory.factors.resize(static_cast<size_t>(groups * stride));
  memory.leasts.resize(static_cast<size_t>(groups));
  memory.out.resize(static_cast<size_t>(padded(head)));
  for (int64_t g = 0; g < groups; g++)
    memory.leasts[static_cast<size_t>(g)] = Cache::weigh(values, chosen, head, g, memory.factors.data() + g * stride);
  int64_t column = 0;
  for (; column + 8 * LANES <= head; column += 8 * LANES) add_columns<Cache, 8>(values, chosen, head, stride, column);
  for (; column + 2 * LANES <= head; column += 2 * LANES) add_columns<Cache, 2>(values, chosen, head, stride, column);
  for (; column + LANES <= head; column += LANES) add_columns<Cache, 1>(values, chosen, head, stride, column);
  if (column < head) add_columns<Cache, 1, true>(values, chosen, head, stride, column);
}

/* y [head] of a query that sees the positions `seen`; scores[0] is that of position `base`, at the begin of a page. */
template <class Cache> static void finish(const flx_attention &a, const HeadPages &values, const Range &seen, float *scores, int64_t base, float *y) {
  const Range past{seen.from - base, seen.to - base - 1}, own{past.from, past.to + 1}, columns{own.from / LANES * LANES, padded(own.to)};
  if (a.softcap > 0) cap(a, scores, own);
  fill_unseen(scores, own, columns, -INFINITY);
  const float sum = exponentials(scores, own, columns, largest_of(scores, columns));
  const int64_t k = static_cast<int64_t>(a.sparsity * static_cast<double>(past.to - past.from));
  memory.positions.resize(static_cast<size_t>(k + 1));
  memory.weights.assign(static_cast<size_t>(padded(k + 1)), 0);
  int32_t *positions = memory.positions.data();
  const int64_t own_place = choose(scores, past, k, positions), count = own_place + 1;
  positions[own_place] = static_cast<int32_t>(past.to);
  for (int64_t i = 0; i < count; i++) {
    memory.weights[static_cast<size_t>(i)] = scores[positions[i]];
    positions[i] += static_cast<int32_t>(base);
  }
  add_chosen<Cache>(values, {positions, memory.weights.data(), count}, a.head);
  scale_row(memory.out.data(), a.head, 1 / sum, y);
}

template <class Cache> static void attend(const flx_attention &a, const Block &block) {
  const int64_t group = a.heads / a.kv_heads, places = block.kv_heads * block.count;
  const auto position_of = [&](int64_t place) { return block.row->start + (block.first + place % block.count) / group; };
  const auto seen_from = [&](int64_t position) { return a.window > 0 ? std::max<int64_t>(0, position + 1 - a.window) : 0; };
  memory.q.resize(static_cast<size_t>(places * a.head));
  for (int64_t i = 0; i < places; i++) scale_row(a.q + offset_of(a, block, i), a.head, a.scale, memory.q.data() + i * a.head);
  const int64_t begin = seen_from(position_of(0)) / FLX_PAGE, last = position_of(block.count - 1) / FLX_PAGE;
  const int64_t base = begin * FLX_PAGE, length = (last + 1) * FLX_PAGE - base;
  memory.scores.resize(static_cast<size_t>(places * length));
  for (int64_t tile = begin; tile <= last; tile++) score_tile<Cache>(a, block, tile, last, memory.scores.data() + tile * FLX_PAGE - base, length);
  for (int64_t i = 0; i < places; i++) {
    const int64_t position = position_of(i);
    const HeadPages values = values_of(a, block.row, block.kv_head + i / block.count, Cache::page_bytes(a.head));
    finish<Cache>(a, values, {seen_from(position), position + 1}, memory.scores.data() + i * length, base, a.y + offset_of(a, block, i));
  }
}

void attend_sparsely(const flx_attention &a, const Block &block) {
  with_cache(a.type, [&](auto cache) { attend<decltype(cache)>(a, block); });
}
