/* Attention over pages: softmax is online, over pages of positions counted from 0. */
#include <vector>

#include "attention_sparse.h"
#include "steps.h"
#include "team.h"

/* kv heads of a block: 8 pages of 16 KiB are read in a row, at twice the speed of single ones, which begin with misses. */
static constexpr int64_t MOST_HEADS = 8;
/* Blocks are not made so large that threads have less of them. */
static constexpr int64_t TILES_A_THREAD = 4;
/* exp(8) times any number of weights is far from the largest float. */
static constexpr float LEAP = 8;

namespace {
/* Of one thread, for one block of queries. */
struct BlockMemory {
  std::vector<float> q, out, scores, most, sum;
};

/* Of queries that follow each other: weights are exp(score - most), `total` is their sum, `out` [queries, width] that of their values. */
struct Sums {
  float *most;
  float *total;
  float *out;
  int64_t width;
};
} // namespace

static thread_local BlockMemory memory;

static Sums sums_of(int64_t place, int64_t width) {
  return {memory.most.data() + place, memory.sum.data() + place, memory.out.data() + place * width, width};
}

/* What was summed for a query becomes relative to the score `most`. */
static void rescale(const Sums &sums, int64_t query, float most) {
  if (sums.most[query] != -INFINITY) {
    float factor[LANES];
    f_store(factor, f_exp(f_set(sums.most[query] - most)));
    sums.total[query] *= factor[0];
    scale_row(sums.out + query * sums.width, sums.width, factor[0], sums.out + query * sums.width);
  }
  sums.most[query] = most;
}

/*
 * Scores [rows, FLX_PAGE] of a tile become shares; `sums` are those of the same queries. Each is exp(score - most), where `most` may be LEAP less than the
 * largest score so far: what was summed is made anew only when scores grow by more, which after a first tile they rarely do.
 */
static void soften(const flx_attention &a, float *scores, int64_t rows, const Range *seen, const Range &columns, const Sums &sums) {
  for (int64_t r = 0; r < rows; r++) {
    if (a.softcap > 0) cap(a, scores + r * FLX_PAGE, seen[r]);
    fill_unseen(scores + r * FLX_PAGE, seen[r], columns, -INFINITY);
    const float tile = largest_of(scores + r * FLX_PAGE, columns);
    if (!(tile <= sums.most[r] + LEAP)) rescale(sums, r, tile);
  }
  for (int64_t r = 0; r < rows; r++)
    if (seen[r].from < seen[r].to) sums.total[r] += exponentials(scores + r * FLX_PAGE, seen[r], columns, sums.most[r]);
    else std::fill(scores + r * FLX_PAGE + columns.from, scores + r * FLX_PAGE + columns.to, 0.f);
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
  soften(a, scores, rows, seen, columns, sums_of(at, padded(a.head)));
}

/*
 * Asks for results of a few queries from `place` on, which are written when their block is done, and for queries of the block that follows. These rows lie
 * apart, so the processor does not see them coming; a few at a time are here before they are needed, all at once would stop the computing.
 */
FLX_ASKING void ask_for_rows(const flx_attention &a, const Block &block, const Block &following, int64_t place) {
  const int64_t bytes = a.head * static_cast<int64_t>(sizeof(float));
  for (int64_t i = place; i < std::min(place + QUERIES, block.kv_heads * block.count); i++) ask_for(a.y + offset_of(a, block, i), bytes);
  for (int64_t i = place; i < std::min(place + QUERIES, following.kv_heads * following.count); i++) ask_for(a.q + offset_of(a, following, i), bytes);
}

/* All keys of a tile come before its values: what lies together in memory is read together. `following` is null but for the first tile of a block. */
template <class Cache> static void attend_tile(const flx_attention &a, const Block &block, int64_t tile, int64_t last, const Block *following) {
  const int64_t bytes = Cache::page_bytes(a.head), width = padded(a.head);
  const HeadPages all_keys = keys_of(a, block.row, block.kv_head, bytes);
  const uint8_t *keys = all_keys.holding(tile * FLX_PAGE), *values = values_of(a, block.row, block.kv_head, bytes).holding(tile * FLX_PAGE);
  const uint8_t *next = all_keys.holding(std::min(tile + 1, last) * FLX_PAGE);
  for (int64_t h = 0; h < block.kv_heads; h++)
    for (int64_t first = 0; first < block.count; first += QUERIES) {
      if (following) ask_for_rows(a, block, *following, h * block.count + first);
      share_out<Cache>(a, block, tile, first, std::min<int64_t>(QUERIES, block.count - first), static_cast<size_t>(h * block.count + first), keys + h * bytes,
                       values + h * bytes);
    }
  for (int64_t h = 0; h < block.kv_heads; h++)
    for (int64_t first = 0; first < block.count; first += QUERIES) {
      const int64_t rows = std::min<int64_t>(QUERIES, block.count - first), place = h * block.count + first;
      const Range all = seen_by_all(a, block, first, rows, tile);
      if (all.from < all.to)
        Cache::add_values(rows, memory.scores.data() + place * FLX_PAGE, values + h * bytes, a.head, all, memory.out.data() + place * width, width,
                          next + h * bytes);
    }
}

/* `following` is the block that this thread is likely to compute behind this one. */
template <class Cache> static void attend_block(const flx_attention &a, const Block &block, const Block &following) {
  const int64_t group = a.heads / a.kv_heads, width = padded(a.head), places = block.kv_heads * block.count;
  memory.q.resize(static_cast<size_t>(places * a.head));
  memory.scores.resize(static_cast<size_t>(places * FLX_PAGE));
  memory.out.assign(static_cast<size_t>(places * width), 0);
  memory.most.assign(static_cast<size_t>(places), -INFINITY);
  memory.sum.assign(static_cast<size_t>(places), 0);
  for (int64_t i = 0; i < places; i++) scale_row(a.q + offset_of(a, block, i), a.head, a.scale, memory.q.data() + i * a.head);
  const int64_t earliest = block.row->start + block.first / group;
  const int64_t latest = block.row->start + (block.first + block.count - 1) / group;
  const int64_t begin = a.window > 0 ? std::max<int64_t>(0, earliest + 1 - a.window) / FLX_PAGE : 0;
  for (int64_t tile = begin; tile <= latest / FLX_PAGE; tile++) attend_tile<Cache>(a, block, tile, latest / FLX_PAGE, tile == begin ? &following : nullptr);
  for (int64_t i = 0; i < places; i++)
    scale_row(memory.out.data() + i * width, a.head, 1 / memory.sum[static_cast<size_t>(i)], a.y + offset_of(a, block, i));
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

namespace {
/* Queries of a row that are computed in the same way; `most` of a block at most, over all of its kv heads. */
struct Span {
  const flx_row *row;
  int64_t from;
  int64_t to;
  int64_t most;
  bool sparse;
};
} // namespace

/* Tokens before `prompt` see all values; those behind it, with sparse attention, have blocks of their own. */
static std::vector<Span> spans_of(const flx_attention &a) {
  const int64_t group = a.heads / a.kv_heads;
  std::vector<Span> spans;
  for (int64_t i = 0; i < a.batch->count; i++) {
    const flx_row *row = a.batch->rows + i;
    const int64_t tokens = row->tokens;
    const int64_t dense = a.sparsity < 1 ? std::min(tokens, std::max<int64_t>(0, int64_t{row->prompt} - row->start)) : tokens;
    if (dense > 0) spans.push_back({row, 0, dense * group, BLOCK_QUERIES, false});
    if (dense < tokens) spans.push_back({row, dense * group, tokens * group, most_sparse(row->start + tokens), true});
  }
  return spans;
}

/*
 * Spans are cut into blocks for each kv head; blocks of few queries take several kv heads, since their pages lie together. Blocks of a kv head follow each
 * other, so that its pages stay in the second cache.
 */
static std::vector<Block> blocks_of(const flx_attention &a, int64_t least) {
  const std::vector<Span> spans = spans_of(a);
  int64_t pieces = 0;
  for (const Span &span : spans) pieces += (span.to - span.from + span.most - 1) / span.most;
  const int64_t most_heads = std::min<int64_t>(MOST_HEADS, std::max<int64_t>(1, pieces * a.kv_heads / least));
  std::vector<Block> blocks;
  for (const Span &span : spans) {
    const int64_t heads = std::min(most_heads, std::max<int64_t>(1, span.most / std::min(span.most, span.to - span.from)));
    for (int64_t h = 0; h < a.kv_heads; h += heads)
      for (int64_t first = span.from; first < span.to; first += span.most)
        blocks.push_back({span.row, h, std::min<int64_t>(heads, a.kv_heads - h), first, std::min(span.most, span.to - first), span.sparse});
  }
  return blocks;
}

template <class Cache> static void attend(flx_team *team, const flx_attention &a) {
  append<Cache>(team, a);
  const std::vector<Block> blocks = blocks_of(a, TILES_A_THREAD * team_size(team));
  const int64_t count = static_cast<int64_t>(blocks.size());
  /* The last blocks of a row see most; they come first, so that no thread ends late. */
  parallel(team, count, [&](int64_t tile) {
    const Block &block = blocks[static_cast<size_t>(count - 1 - tile)];
    const Block &following = blocks[static_cast<size_t>(std::max<int64_t>(0, count - 1 - tile - team_size(team)))];
    block.sparse ? attend_sparsely(a, block) : attend_block<Cache>(a, block, following);
  });
}

void run_attention(flx_team *team, const flx_attention &a) {
  with_cache(a.type, [&](auto cache) { attend<decltype(cache)>(team, a); });
}
