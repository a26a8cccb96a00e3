/* Experts, one after the other: each multiplies all the rows that chose it at once. */
#include <algorithm>
#include <cmath>
#include <cstring>

#include "activation.h"
#include "steps.h"
#include "team.h"

namespace {
/* A row that an expert computes, and where its result goes. */
struct Choice {
  int32_t row;
  int32_t rank;
  float share;
};

/* The parts of the scratch memory. */
struct Parts {
  Choice *choices; /* [experts + 1 lists of at most rows], laid out by expert: `starts` says where */
  int32_t *starts; /* [experts + 1] */
  Choice *ranked;  /* [rows, used] with the expert in `row` */
  float *x;        /* [rows, columns] gathered */
  float *gate;     /* [rows, inner] */
  float *up;
  float *down;    /* [rows, columns] */
  float *results; /* [rows, used, columns] */
  void *linear;
  int64_t bytes;
};
} // namespace

static Parts parts_of(const flx_moe &m, char *base) {
  int64_t at = 0;
  const auto take = [&](int64_t bytes) {
    char *start = base + at;
    at += (bytes + 63) / 64 * 64;
    return start;
  };
  const int64_t rows = m.rows, chosen = rows * m.used, choice = static_cast<int64_t>(sizeof(Choice));
  Parts p;
  p.choices = reinterpret_cast<Choice *>(take(chosen * choice));
  p.starts = reinterpret_cast<int32_t *>(take((m.experts + 1) * 4));
  p.ranked = reinterpret_cast<Choice *>(take(chosen * choice));
  p.x = reinterpret_cast<float *>(take(rows * m.columns * 4));
  p.gate = reinterpret_cast<float *>(take(rows * m.inner * 4));
  p.up = reinterpret_cast<float *>(take(rows * m.inner * 4));
  p.down = reinterpret_cast<float *>(take(rows * m.columns * 4));
  p.results = reinterpret_cast<float *>(take(chosen * m.columns * 4));
  const int64_t in = flx_linear_scratch_bytes(m.gate.each.type, rows, m.columns);
  const int64_t up = flx_linear_scratch_bytes(m.up.each.type, rows, m.columns);
  const int64_t out = flx_linear_scratch_bytes(m.down.each.type, rows, m.inner);
  p.linear = take(std::max(std::max(in, up), out));
  p.bytes = at;
  return p;
}

extern "C" int64_t flx_moe_scratch_bytes(const flx_moe *moe) { return parts_of(*moe, nullptr).bytes; }

/* The experts with the highest logits, the first one where two are equal; shares by softmax. */
static void rank_row(const flx_moe &m, int64_t row, Choice *ranked) {
  const float *logits = m.logits + row * m.experts;
  for (int32_t rank = 0; rank < m.used; rank++) {
    int32_t best = -1;
    for (int32_t e = 0; e < m.experts; e++) {
      const bool taken = std::any_of(ranked, ranked + rank, [&](const Choice &c) { return c.row == e; });
      if (!taken && (best < 0 || logits[e] > logits[best])) best = e;
    }
    ranked[rank] = {best, rank, 0};
  }
  const float most = logits[ranked[0].row];
  float sum = 0;
  for (int32_t i = 0; i < (m.normalise ? m.used : m.experts); i++) sum += std::exp(logits[m.normalise ? ranked[i].row : i] - most);
  for (int32_t rank = 0; rank < m.used; rank++) ranked[rank].share = std::exp(logits[ranked[rank].row] - most) / sum;
}

static void sort_by_expert(const flx_moe &m, const Parts &p) {
  std::fill(p.starts, p.starts + m.experts + 1, 0);
  const int64_t chosen = static_cast<int64_t>(m.rows) * m.used;
  for (int64_t i = 0; i < chosen; i++) p.starts[p.ranked[i].row + 1]++;
  for (int32_t e = 0; e < m.experts; e++) p.starts[e + 1] += p.starts[e];
  for (int64_t i = 0; i < chosen; i++) p.choices[p.starts[p.ranked[i].row]++] = {static_cast<int32_t>(i / m.used), p.ranked[i].rank, p.ranked[i].share};
  for (int32_t e = m.experts; e > 0; e--) p.starts[e] = p.starts[e - 1];
  p.starts[0] = 0;
}

static flx_weight expert_of(const flx_stack &stack, int64_t expert) {
  flx_weight weight = stack.each;
  weight.data = stack.places[expert].data;
  weight.packed = static_cast<int32_t>(stack.places[expert].packed);
  return weight;
}

static void run_expert(flx_team *team, const flx_moe &m, const Parts &p, int64_t expert) {
  const Choice *choices = p.choices + p.starts[expert];
  const int32_t count = p.starts[expert + 1] - p.starts[expert];
  if (count == 0) return;
  parallel(team, count, [&](int64_t i) {
    std::memcpy(p.x + i * m.columns, m.x + choices[i].row * static_cast<int64_t>(m.columns), static_cast<size_t>(m.columns) * 4);
  });
  run_linear(team, {expert_of(m.gate, expert), p.x, p.gate, nullptr, nullptr, nullptr, p.linear, m.inner, count, m.activation});
  run_linear(team, {expert_of(m.up, expert), p.x, p.up, nullptr, p.gate, nullptr, p.linear, m.inner, count, FLX_NONE});
  run_linear(team, {expert_of(m.down, expert), p.up, p.down, nullptr, nullptr, nullptr, p.linear, m.columns, count, FLX_NONE});
  parallel(team, count, [&](int64_t i) {
    float *to = p.results + (choices[i].row * static_cast<int64_t>(m.used) + choices[i].rank) * m.columns;
    for (int64_t c = 0; c < m.columns; c++) to[c] = p.down[i * m.columns + c] * choices[i].share;
  });
}

void run_moe(flx_team *team, const flx_moe &m) {
  const Parts p = parts_of(m, static_cast<char *>(m.scratch));
  parallel(team, m.rows, [&](int64_t row) { rank_row(m, row, p.ranked + row * m.used); });
  sort_by_expert(m, p);
  for (int64_t expert = 0; expert < m.experts; expert++) run_expert(team, m, p, expert);
  parallel(team, m.rows, [&](int64_t row) {
    for (int64_t c = 0; c < m.columns; c++) {
      float sum = 0;
      for (int64_t rank = 0; rank < m.used; rank++) sum += p.results[(row * m.used + rank) * m.columns + c];
      m.y[row * m.columns + c] = sum;
    }
  });
}
