/*
 * Attention over pages. A page of keys is [kv head][element of the head][position], a page of values [kv head][position][element], so that both
 * products walk along vectors without sums across them: positions for the scores, elements for the result.
 */
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "activation.h"
#include "steps.h"
#include "stored.h"
#include "team.h"

/* Queries that read a page together: the more, the less of it is loaded; their results stay in the second cache. */
static constexpr int64_t BLOCK_QUERIES = 48;
#if defined(FLX_ISA_AVX512)
static constexpr int VECTORS = 4;
static constexpr int ROWS = 6;
#else
static constexpr int VECTORS = 2;
static constexpr int ROWS = 6;
#endif

/* out[q][c] += sum over k of x[q][k] b[k][c], k from `from` to `to`, in this order; V vectors of columns. */
template <class T, int R, int V>
static void accumulate(const float *x, int64_t ldx, const typename T::Stored *b, int64_t ldb, int64_t from, int64_t to, float *out, int64_t ldo) {
  F sums[R][V];
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) sums[r][v] = f_load(out + r * ldo + v * LANES);
  for (int64_t k = from; k < to; k++) {
    F row[V];
    for (int v = 0; v < V; v++) row[v] = T::load(b + k * ldb + v * LANES);
    for (int r = 0; r < R; r++)
      for (int v = 0; v < V; v++) sums[r][v] = f_fma(row[v], f_set(x[r * ldx + k]), sums[r][v]);
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < V; v++) f_store(out + r * ldo + v * LANES, sums[r][v]);
}

template <class T, int R>
static void product_rows(const float *x, int64_t ldx, const typename T::Stored *b, int64_t ldb, int64_t from, int64_t to, float *out, int64_t ldo, int64_t columns) {
  int64_t c = 0;
  for (; c + VECTORS * LANES <= columns; c += VECTORS * LANES) accumulate<T, R, VECTORS>(x, ldx, b + c, ldb, from, to, out + c, ldo);
  for (; c < columns; c += LANES) accumulate<T, R, 1>(x, ldx, b + c, ldb, from, to, out + c, ldo);
}

template <class T, int R>
static void choose_rows(int64_t rows, const float *x, int64_t ldx, const typename T::Stored *b, int64_t ldb, int64_t from, int64_t to, float *out, int64_t ldo, int64_t columns) {
  if (rows == R) return product_rows<T, R>(x, ldx, b, ldb, from, to, out, ldo, columns);
  if constexpr (R > 1) choose_rows<T, R - 1>(rows, x, ldx, b, ldb, from, to, out, ldo, columns);
}

/* The same for any number of queries; `columns` is a multiple of LANES. */
template <class T>
static void product(int64_t rows, const float *x, int64_t ldx, const typename T::Stored *b, int64_t ldb, int64_t from, int64_t to, float *out, int64_t ldo, int64_t columns) {
  for (int64_t r = 0; r < rows; r += ROWS)
    choose_rows<T, ROWS>(std::min<int64_t>(ROWS, rows - r), x + r * ldx, ldx, b, ldb, from, to, out + r * ldo, ldo, columns);
}

namespace {
/* Of one thread, for one block of queries. */
struct BlockMemory {
  std::vector<float> q, out, scores, values, most, sum;
};
} // namespace
static thread_local BlockMemory memory;

/* Queries of one kv head: query i is token i / group of the row, head i % group of those that share the kv head. */
struct Block {
  const flx_row *row;
  int64_t kv_head;
  int64_t first; /* query */
  int64_t count;
};

static int64_t padded(int64_t head) { return (head + LANES - 1) / LANES * LANES; }

/* Scores of a tile become shares; returns what the earlier result is multiplied with. Sums run over lanes first, then across them. */
static float soften(float *scores, int64_t from, int64_t to, float *most, float *sum) {
  for (int64_t i = 0; i < from; i++) scores[i] = -INFINITY;
  for (int64_t i = to; i < FLX_PAGE; i++) scores[i] = -INFINITY;
  float tile = -INFINITY;
  for (int64_t i = from; i < to; i++) tile = scores[i] > tile || std::isnan(scores[i]) ? scores[i] : tile;
  const float next = tile > *most || std::isnan(tile) ? tile : *most;
  const float factor = *most == -INFINITY ? 0 : std::exp(*most - next);
  F total = f_set(0);
  for (int64_t i = 0; i < FLX_PAGE; i += LANES) {
    const F share = f_exp(f_sub(f_load(scores + i), f_set(next)));
    f_store(scores + i, share);
    total = f_add(total, share);
  }
  /* exp of minus infinity is tiny, but not nothing */
  for (int64_t i = 0; i < from; i++) scores[i] = 0;
  for (int64_t i = to; i < FLX_PAGE; i++) scores[i] = 0;
  float lanes[LANES];
  f_store(lanes, total);
  float tile_sum = 0;
  for (int i = 0; i < LANES; i++) tile_sum += lanes[i];
  *sum = *sum * factor + tile_sum;
  *most = next;
  return factor;
}

/* A head that is no multiple of vectors: its values as floats, padded. */
template <class T> static const float *pad_values(const typename T::Stored *values, int64_t count, int64_t head) {
  const int64_t width = padded(head);
  memory.values.assign(static_cast<size_t>(FLX_PAGE * width), 0);
  for (int64_t i = 0; i < count; i++)
    for (int64_t e = 0; e < head; e++) memory.values[static_cast<size_t>(i * width + e)] = T::widen(values[i * head + e]);
  return memory.values.data();
}

template <class T> static void attend_tile(const flx_attention &a, const Block &block, int64_t tile) {
  typedef typename T::Stored Stored;
  const int64_t group = a.heads / a.kv_heads, width = padded(a.head);
  const int64_t page = block.row->pages[tile];
  const int64_t offset = (page * a.kv_heads + block.kv_head) * FLX_PAGE * a.head;
  const Stored *keys = static_cast<const Stored *>(a.keys) + offset;
  const Stored *values = static_cast<const Stored *>(a.values) + offset;
  float *scores = memory.scores.data();
  std::fill(scores, scores + block.count * FLX_PAGE, 0.f);
  product<T>(block.count, memory.q.data(), a.head, keys, FLX_PAGE, 0, a.head, scores, FLX_PAGE, FLX_PAGE);
  int64_t lowest = FLX_PAGE, highest = 0;
  for (int64_t i = 0; i < block.count; i++) {
    float *own = scores + i * FLX_PAGE;
    const int64_t position = block.row->start + (block.first + i) / group;
    const int64_t to = std::min<int64_t>(FLX_PAGE, position + 1 - tile * FLX_PAGE);
    const int64_t from = a.window > 0 ? std::max<int64_t>(0, position + 1 - a.window - tile * FLX_PAGE) : 0;
    if (from >= to) {
      std::fill(own, own + FLX_PAGE, 0.f);
      continue;
    }
    for (int64_t p = from; p < to; p++) {
      own[p] *= a.scale;
      if (a.softcap > 0) own[p] = a.softcap * std::tanh(own[p] / a.softcap);
    }
    const float factor = soften(own, from, to, &memory.most[static_cast<size_t>(i)], &memory.sum[static_cast<size_t>(i)]);
    float *out = memory.out.data() + i * width;
    for (int64_t e = 0; e < width; e += LANES) f_store(out + e, f_mul(f_load(out + e), f_set(factor)));
    lowest = std::min(lowest, from);
    highest = std::max(highest, to);
  }
  if (lowest >= highest) return;
  if (width == a.head) product<T>(block.count, scores, FLX_PAGE, values, a.head, lowest, highest, memory.out.data(), width, width);
  else product<Floats>(block.count, scores, FLX_PAGE, pad_values<T>(values, highest, a.head), width, lowest, highest, memory.out.data(), width, width);
}

template <class T> static void attend_block(const flx_attention &a, const Block &block) {
  const int64_t group = a.heads / a.kv_heads, width = padded(a.head);
  memory.q.resize(static_cast<size_t>(BLOCK_QUERIES * a.head));
  memory.scores.resize(BLOCK_QUERIES * FLX_PAGE);
  memory.out.assign(static_cast<size_t>(BLOCK_QUERIES * width), 0);
  memory.most.assign(BLOCK_QUERIES, -INFINITY);
  memory.sum.assign(BLOCK_QUERIES, 0);
  const auto at = [&](int64_t i) {
    const int64_t query = block.first + i;
    return (block.row->first + query / group) * a.heads * a.head + (block.kv_head * group + query % group) * a.head;
  };
  for (int64_t i = 0; i < block.count; i++) std::memcpy(memory.q.data() + i * a.head, a.q + at(i), static_cast<size_t>(a.head) * 4);
  const int64_t earliest = block.row->start + block.first / group;
  const int64_t latest = block.row->start + (block.first + block.count - 1) / group;
  const int64_t begin = a.window > 0 ? std::max<int64_t>(0, earliest + 1 - a.window) / FLX_PAGE : 0;
  for (int64_t tile = begin; tile <= latest / FLX_PAGE; tile++) attend_tile<T>(a, block, tile);
  for (int64_t i = 0; i < block.count; i++) {
    const float sum = memory.sum[static_cast<size_t>(i)];
    for (int64_t e = 0; e < a.head; e++) a.y[at(i) + e] = memory.out[static_cast<size_t>(i * width + e)] / sum;
  }
}

template <class T> static void append_row(const flx_attention &a, const flx_row &row) {
  typedef typename T::Stored Stored;
  for (int64_t token = 0; token < row.tokens; token++) {
    const int64_t position = row.start + token, slot = position % FLX_PAGE;
    const int64_t page = row.pages[position / FLX_PAGE];
    if (page == 0) continue; /* behind the window already */
    for (int64_t head = 0; head < a.kv_heads; head++) {
      const int64_t from = ((row.first + token) * a.kv_heads + head) * a.head;
      const int64_t to = (page * a.kv_heads + head) * FLX_PAGE * a.head;
      Stored *keys = static_cast<Stored *>(a.keys) + to, *values = static_cast<Stored *>(a.values) + to;
      for (int64_t e = 0; e < a.head; e++) keys[e * FLX_PAGE + slot] = T::narrow(a.k[from + e]);
      for (int64_t e = 0; e < a.head; e++) values[slot * a.head + e] = T::narrow(a.v[from + e]);
    }
  }
}

template <class T> static void attend(flx_team *team, const flx_attention &a) {
  const flx_row *rows = a.batch->rows;
  parallel(team, a.batch->count, [&](int64_t row) { append_row<T>(a, rows[row]); });
  const int64_t group = a.heads / a.kv_heads;
  std::vector<int64_t> ends; /* of the blocks of each row, one kv head */
  int64_t blocks = 0;
  for (int64_t row = 0; row < a.batch->count; row++) ends.push_back(blocks += (rows[row].tokens * group + BLOCK_QUERIES - 1) / BLOCK_QUERIES);
  parallel(team, blocks * a.kv_heads, [&](int64_t tile) {
    /* The last blocks of a row see most; they come first, so that no thread ends late. */
    const int64_t index = blocks - 1 - tile / a.kv_heads;
    const int64_t row = std::upper_bound(ends.begin(), ends.end(), index) - ends.begin();
    const int64_t first = (index - (row > 0 ? ends[static_cast<size_t>(row - 1)] : 0)) * BLOCK_QUERIES;
    const int64_t count = std::min(BLOCK_QUERIES, rows[row].tokens * group - first);
    attend_block<T>(a, {rows + row, tile % a.kv_heads, first, count});
  });
}

void run_attention(flx_team *team, const flx_attention &a) {
  if (a.type == FLX_F32) attend<Floats>(team, a);
  else if (a.type == FLX_F16) attend<Halves>(team, a);
  else attend<Bfloats>(team, a);
}
