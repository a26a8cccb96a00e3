/* Attention over pages: softmax is online, over pages of positions counted from 0. */
#include <cmath>
#include <cstring>
#include <vector>

#include "activation.h"
#include "attention_cache.h"
#include "steps.h"
#include "team.h"

/* Queries that read a page together: the more, the less of it is loaded; their results stay in the second cache. */
static constexpr int64_t BLOCK_QUERIES = 8 * QUERIES;
/* kv heads of a block: 8 pages of 16 KiB are read in a row, at twice the speed of single ones, which begin with misses. */
static constexpr int64_t MOST_HEADS = 8;
/* Blocks are not made so large that threads have less of them. */
static constexpr int64_t TILES_A_THREAD = 4;

namespace {
/* Of one thread, for one block of queries. */
struct BlockMemory {
  std::vector<float> q, out, scores, most, sum;
};

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
};

} // namespace

static thread_local BlockMemory memory;

namespace {
/* Of one kv head; those of the following ones lie behind. */
struct Page {
  const uint8_t *keys;
  const uint8_t *values;
};
} // namespace

/* `bytes`: of a page of one kv head. */
static Page page_of(const flx_attention &a, int32_t page, int64_t kv_head, int64_t bytes) {
  const bool staged = page >= FLX_STAGED;
  const int64_t offset = ((staged ? page - FLX_STAGED : page) * static_cast<int64_t>(a.kv_heads) + kv_head) * bytes;
  return {static_cast<const uint8_t *>(staged ? a.staged_keys : a.keys) + offset, static_cast<const uint8_t *>(staged ? a.staged_values : a.values) + offset};
}

static int64_t padded(int64_t head) { return (head + LANES - 1) / LANES * LANES; }

/* Positions of a tile that query `query` of a block sees. */
static Range seen_by(const flx_attention &a, const Block &block, int64_t query, int64_t tile) {
  const int64_t position = block.row->start + (block.first + query) / (a.heads / a.kv_heads) - tile * FLX_PAGE;
  const int64_t from = a.window > 0 ? std::max<int64_t>(0, position + 1 - a.window) : 0;
  return {from, std::min<int64_t>(FLX_PAGE, position + 1)};
}

static void cap(const flx_attention &a, float *scores, const Range &seen) {
  for (int64_t p = seen.from; p < seen.to; p++) scores[p] = a.softcap * std::tanh(scores[p] / a.softcap);
}

static void scale_row(const float *x, int64_t count, float factor, float *y) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) f_store(y + i, f_mul(f_load(x + i), f_set(factor)));
  for (; i < count; i++) y[i] = x[i] * factor;
}

static Range seen_by_all(const flx_attention &a, const Block &block, int64_t first, int64_t rows, int64_t tile) {
  return {seen_by(a, block, first, tile).from, seen_by(a, block, first + rows - 1, tile).to};
}

/* Scores of what a query does not see become `value`, in `columns`, which are whole vectors. */
static void fill_unseen(float *scores, const Range &seen, const Range &columns, float value) {
  for (int64_t i = columns.from; i < std::min(seen.from, columns.to); i++) scores[i] = value;
  for (int64_t i = std::max(seen.to, columns.from); i < columns.to; i++) scores[i] = value;
}

static float largest_of(const float *scores, const Range &columns) {
  F largest = f_load(scores + columns.from);
  for (int64_t i = columns.from + LANES; i < columns.to; i += LANES) largest = f_max(largest, f_load(scores + i));
  return f_largest(largest);
}

/* Scores become exp(score - most). Returns their sum: vectors are added one to the other, then their lanes, so that what is 0 may be left out. */
static float exponentials(float *scores, const Range &seen, const Range &columns, float most) {
  for (int64_t i = columns.from; i < columns.to; i += LANES) f_store(scores + i, f_exp(f_sub(f_load(scores + i), f_set(most))));
  fill_unseen(scores, seen, columns, 0); /* exp of minus infinity is tiny, but not nothing */
  F total = f_set(0);
  for (int64_t i = columns.from; i < columns.to; i += LANES) total = f_add(total, f_load(scores + i));
  return f_sum(total);
}

/*
 * Scores [rows, FLX_PAGE] of a tile become shares; `place` is that of the first query. What belongs to one query waits for itself all along, so each step
 * is made for all of them.
 */
static void soften(const flx_attention &a, float *scores, int64_t rows, const Range *seen, const Range &columns, size_t place) {
  constexpr int PLACES = (QUERIES + LANES - 1) / LANES * LANES;
  float next[PLACES] = {}, factors[PLACES] = {};
  float *most = memory.most.data() + place, *sum = memory.sum.data() + place;
  for (int64_t r = 0; r < rows; r++) {
    if (a.softcap > 0) cap(a, scores + r * FLX_PAGE, seen[r]);
    fill_unseen(scores + r * FLX_PAGE, seen[r], columns, -INFINITY);
    const float tile = largest_of(scores + r * FLX_PAGE, columns);
    next[r] = tile > most[r] || std::isnan(tile) ? tile : most[r];
    factors[r] = most[r] - next[r];
  }
  for (int i = 0; i < PLACES; i += LANES) f_store(factors + i, f_exp(f_load(factors + i)));
  for (int64_t r = 0; r < rows; r++) {
    if (seen[r].from >= seen[r].to) {
      fill_unseen(scores + r * FLX_PAGE, {columns.to, columns.to}, columns, 0);
      continue;
    }
    const float factor = next[r] == most[r] ? 1 : most[r] == -INFINITY ? 0 : factors[r];
    sum[r] = sum[r] * factor + exponentials(scores + r * FLX_PAGE, seen[r], columns, next[r]);
    most[r] = next[r];
    float *out = memory.out.data() + (static_cast<int64_t>(place) + r) * padded(a.head);
    if (factor != 1) scale_row(out, padded(a.head), factor, out);
  }
}

/* Shares of positions of a tile for queries `first` to `first + rows` of a block, QUERIES of them at most, that are in `place` and following ones. */
template <class Cache>
static void share_out(const flx_attention &a, const Block &block, int64_t tile, int64_t first, int64_t rows, size_t place, const uint8_t *keys,
                      const uint8_t *next) {
  const int64_t at = static_cast<int64_t>(place);
  const Range all = seen_by_all(a, block, first, rows, tile);
  if (all.from >= all.to) return;
  const Range columns{all.from / LANES * LANES, (all.to + LANES - 1) / LANES * LANES};
  float *scores = memory.scores.data() + at * FLX_PAGE;
  for (int64_t r = 0; r < rows; r++) std::fill(scores + r * FLX_PAGE + columns.from, scores + r * FLX_PAGE + columns.to, 0.f);
  Cache::scores({memory.q.data() + at * a.head, rows, a.head}, keys, columns, scores, next);
  Range seen[QUERIES];
  for (int64_t r = 0; r < rows; r++) seen[r] = seen_by(a, block, first + r, tile);
  soften(a, scores, rows, seen, columns, place);
}

/* All keys of a tile come before its values: what lies together in memory is read together. */
template <class Cache> static void attend_tile(const flx_attention &a, const Block &block, int64_t tile, int64_t last) {
  const int64_t bytes = Cache::page_bytes(a.head), width = padded(a.head);
  const auto [keys, values] = page_of(a, block.row->pages[tile], block.kv_head, bytes);
  const uint8_t *next = page_of(a, block.row->pages[std::min(tile + 1, last)], block.kv_head, bytes).keys;
  for (int64_t h = 0; h < block.kv_heads; h++)
    for (int64_t first = 0; first < block.count; first += QUERIES)
      share_out<Cache>(a, block, tile, first, std::min<int64_t>(QUERIES, block.count - first), static_cast<size_t>(h * block.count + first), keys + h * bytes,
                       values + h * bytes);
  for (int64_t h = 0; h < block.kv_heads; h++)
    for (int64_t first = 0; first < block.count; first += QUERIES) {
      const int64_t rows = std::min<int64_t>(QUERIES, block.count - first), place = h * block.count + first;
      const Range all = seen_by_all(a, block, first, rows, tile);
      if (all.from < all.to)
        Cache::add_values(rows, memory.scores.data() + place * FLX_PAGE, values + h * bytes, a.head, all, memory.out.data() + place * width, width,
                          next + h * bytes);
    }
}

template <class Cache> static void attend_block(const flx_attention &a, const Block &block) {
  const int64_t group = a.heads / a.kv_heads, width = padded(a.head), places = block.kv_heads * block.count;
  memory.q.resize(static_cast<size_t>(places * a.head));
  memory.scores.resize(static_cast<size_t>(places * FLX_PAGE));
  memory.out.assign(static_cast<size_t>(places * width), 0);
  memory.most.assign(static_cast<size_t>(places), -INFINITY);
  memory.sum.assign(static_cast<size_t>(places), 0);
  const auto at = [&](int64_t place) {
    const int64_t query = block.first + place % block.count, kv_head = block.kv_head + place / block.count;
    return ((block.row->first + query / group) * a.heads + kv_head * group + query % group) * a.head;
  };
  for (int64_t i = 0; i < places; i++) scale_row(a.q + at(i), a.head, a.scale, memory.q.data() + i * a.head);
  const int64_t earliest = block.row->start + block.first / group;
  const int64_t latest = block.row->start + (block.first + block.count - 1) / group;
  const int64_t begin = a.window > 0 ? std::max<int64_t>(0, earliest + 1 - a.window) / FLX_PAGE : 0;
  for (int64_t tile = begin; tile <= latest / FLX_PAGE; tile++) attend_tile<Cache>(a, block, tile, latest / FLX_PAGE);
  for (int64_t i = 0; i < places; i++) scale_row(memory.out.data() + i * width, a.head, 1 / memory.sum[static_cast<size_t>(i)], a.y + at(i));
}

/* Tokens of one page and kv head: memory that they share is written while it is in the cache. */
template <class Cache> static void append_page(const flx_attention &a, const flx_row &row, int64_t page, int64_t kv_head) {
  const int64_t offset = (row.pages[page] * static_cast<int64_t>(a.kv_heads) + kv_head) * Cache::page_bytes(a.head);
  const int64_t end = std::min<int64_t>(row.start + row.tokens, (page + 1) * FLX_PAGE);
  const int64_t begin = std::max<int64_t>(row.start, page * FLX_PAGE), stride = static_cast<int64_t>(a.kv_heads) * a.head;
  const int64_t from = (row.first + begin - row.start) * stride + kv_head * a.head;
  const Appended rows{a.k + from, a.v + from, stride, begin % FLX_PAGE, end - begin};
  Cache::append(rows, a.head, static_cast<uint8_t *>(a.keys) + offset, static_cast<uint8_t *>(a.values) + offset);
}

namespace {
/* A page that a row writes to. */
struct Written {
  const flx_row *row;
  int64_t page;
};
} // namespace

static std::vector<Written> written_by(const flx_batch &batch) {
  std::vector<Written> pages;
  for (int64_t i = 0; i < batch.count; i++) {
    const flx_row *row = batch.rows + i;
    if (row->tokens == 0) continue;
    for (int64_t page = row->start / FLX_PAGE; page <= (row->start + row->tokens - 1) / FLX_PAGE; page++) pages.push_back({row, page});
  }
  return pages;
}

/* A tile is some kv heads of a page, so that one long prompt keeps all threads busy. */
template <class Cache> static void append(flx_team *team, const flx_attention &a) {
  const std::vector<Written> pages = written_by(*a.batch);
  const int64_t parts = (a.kv_heads + MOST_HEADS - 1) / MOST_HEADS;
  parallel(team, static_cast<int64_t>(pages.size()) * parts, [&](int64_t tile) {
    const Written &one = pages[static_cast<size_t>(tile / parts)];
    const int64_t first = tile % parts * MOST_HEADS;
    for (int64_t h = first; h < std::min<int64_t>(a.kv_heads, first + MOST_HEADS); h++) append_page<Cache>(a, *one.row, one.page, h);
  });
}

/* Queries of one row for each kv head are cut into blocks; blocks of few queries take several kv heads, since their pages lie together. */
static std::vector<Block> blocks_of(const flx_attention &a, int64_t least) {
  const int64_t group = a.heads / a.kv_heads;
  int64_t pieces = 0;
  for (int64_t i = 0; i < a.batch->count; i++) pieces += (a.batch->rows[i].tokens * group + BLOCK_QUERIES - 1) / BLOCK_QUERIES;
  const int64_t most_heads = std::min<int64_t>(MOST_HEADS, std::max<int64_t>(1, pieces * a.kv_heads / least));
  std::vector<Block> blocks;
  for (int64_t i = 0; i < a.batch->count; i++) {
    const flx_row *row = a.batch->rows + i;
    const int64_t queries = row->tokens * group;
    for (int64_t first = 0; first < queries; first += BLOCK_QUERIES) {
      const int64_t count = std::min(BLOCK_QUERIES, queries - first);
      const int64_t heads = std::min(most_heads, std::max<int64_t>(1, BLOCK_QUERIES / count));
      for (int64_t h = 0; h < a.kv_heads; h += heads) blocks.push_back({row, h, std::min<int64_t>(heads, a.kv_heads - h), first, count});
    }
  }
  return blocks;
}

template <class Cache> static void attend(flx_team *team, const flx_attention &a) {
  append<Cache>(team, a);
  const std::vector<Block> blocks = blocks_of(a, TILES_A_THREAD * team_size(team));
  const int64_t count = static_cast<int64_t>(blocks.size());
  /* The last blocks of a row see most; they come first, so that no thread ends late. */
  parallel(team, count, [&](int64_t tile) { attend_block<Cache>(a, blocks[static_cast<size_t>(count - 1 - tile)]); });
}

void run_attention(flx_team *team, const flx_attention &a) {
  switch (a.type) {
    case FLX_F32: return attend<FloatCache<Floats>>(team, a);
    case FLX_F16: return attend<FloatCache<Halves>>(team, a);
    case FLX_BF16: return attend<FloatCache<Bfloats>>(team, a);
    case FLX_Q8_0: return attend<Compressed<8, 32, 128, false>>(team, a);
    case FLX_Q4_0: return attend<Compressed<4, 32, 8, false>>(team, a);
    case FLX_Q4_1: return attend<Compressed<4, 32, 0, true>>(team, a);
    default: return attend<Compressed<4, 64, 0, true>>(team, a);
  }
}
