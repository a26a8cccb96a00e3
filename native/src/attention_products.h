/* Products of a few queries with the keys or values of a page. */
#pragma once
#include <cstdint>

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
#if defined(FLX_ISA_AVX512) || defined(FLX_ISA_NEON)
  constexpr int V = 4;
#else
  constexpr int V = 2;
#endif
  int64_t c = 0;
  /* Alone, a query would wait for each sum; and its values pass by once. */
  if constexpr (R <= 2)
    for (; c + 2 * V * LANES <= columns; c += 2 * V * LANES) accumulate<T, R, 2 * V>(x, ldx, b + c, ldb, from, to, out + c, ldo);
  for (; c + V * LANES <= columns; c += V * LANES) accumulate<T, R, V>(x, ldx, b + c, ldb, from, to, out + c, ldo);
  for (; c < columns; c += LANES) accumulate<T, R, 1>(x, ldx, b + c, ldb, from, to, out + c, ldo);
}
