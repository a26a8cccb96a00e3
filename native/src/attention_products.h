/*
 * Products of queries with one page of a cache of floats. A page of keys is [kv head][element][position], of values [kv head][position][element], so
 * that both products walk along vectors without sums across them: positions for the scores, elements for the result.
 */
#pragma once
#include <algorithm>
#include <vector>

#include "../flexllmgen.h"
#include "stored.h"

/* Queries that are multiplied together: with as many vectors of sums as there are registers. */
static constexpr int QUERIES = 6;

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

/* The same for any number of queries up to R, and of columns that is a multiple of LANES. */
template <class T, int R = QUERIES>
static void product(int64_t rows, const float *x, int64_t ldx, const typename T::Stored *b, int64_t ldb, int64_t from, int64_t to, float *out, int64_t ldo,
                    int64_t columns) {
  if (rows != R) {
    if constexpr (R > 1) product<T, R - 1>(rows, x, ldx, b, ldb, from, to, out, ldo, columns);
    return;
  }
#if defined(FLX_ISA_AVX512)
  constexpr int V = 4;
#else
  constexpr int V = 2;
#endif
  int64_t c = 0;
  for (; c + V * LANES <= columns; c += V * LANES) accumulate<T, R, V>(x, ldx, b + c, ldb, from, to, out + c, ldo);
  for (; c < columns; c += LANES) accumulate<T, R, 1>(x, ldx, b + c, ldb, from, to, out + c, ldo);
}

/* A cache of floats: `page` is that of one kv head. `Stored` may be narrowed. */
template <class T> struct FloatCache {
  typedef typename T::Stored Stored;

  static int64_t page_bytes(int64_t head) { return FLX_PAGE * head * static_cast<int64_t>(sizeof(Stored)); }

  /* scores [rows, FLX_PAGE], columns from `from` to `to`, multiples of LANES, of queries [rows, head] */
  static void scores(int64_t rows, const float *q, int64_t head, const uint8_t *page, int64_t from, int64_t to, float *out) {
    for (int64_t r = 0; r < rows; r++) std::fill(out + r * FLX_PAGE + from, out + r * FLX_PAGE + to, 0.f);
    product<T>(rows, q, head, reinterpret_cast<const Stored *>(page) + from, FLX_PAGE, 0, head, out + from, FLX_PAGE, to - from);
  }

  /* out [rows, width] += shares [rows, FLX_PAGE] times values, positions from `from` to `to`; width is head, rounded up to LANES */
  static void add_values(int64_t rows, const float *shares, const uint8_t *page, int64_t head, int64_t from, int64_t to, float *out, int64_t width) {
    const Stored *values = reinterpret_cast<const Stored *>(page);
    if (width == head) return product<T>(rows, shares, FLX_PAGE, values, head, from, to, out, width, width);
    /* A head that is no multiple of vectors: its values as floats, padded. */
    static thread_local std::vector<float> padded;
    padded.assign(static_cast<size_t>(FLX_PAGE * width), 0);
    for (int64_t i = from; i < to; i++)
      for (int64_t e = 0; e < head; e++) padded[static_cast<size_t>(i * width + e)] = T::widen(values[i * head + e]);
    product<Floats>(rows, shares, FLX_PAGE, padded.data(), width, from, to, out, width, width);
  }

  static void append(const float *k, const float *v, int64_t head, int64_t position, uint8_t *keys, uint8_t *values) {
    for (int64_t e = 0; e < head; e++) reinterpret_cast<Stored *>(keys)[e * FLX_PAGE + position] = T::narrow(k[e]);
    for (int64_t e = 0; e < head; e++) reinterpret_cast<Stored *>(values)[position * head + e] = T::narrow(v[e]);
  }
};
