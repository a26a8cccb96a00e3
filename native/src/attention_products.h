/* Products of a few queries with the keys or values of a page. */
#pragma once
#include <cstdint>

#include "stored.h"

/* Queries that are multiplied together: with as many vectors of sums as there are registers. */
static constexpr int QUERIES = 6;

/*
 * out[q][c] += sum over k of x[q][k] b[k][c], k from `from` to `to`, in this order. GROUP: so many columns have an x of their own, `group` floats behind
 * that of the columns before; 0: all have the same.
 */
template <class T> struct Product {
  const float *x;
  int64_t ldx;
  int64_t group;
  const typename T::Stored *b;
  int64_t ldb;
  int64_t from;
  int64_t to;
  float *out;
  int64_t ldo;
  /* From b to what is read next: the processor does not see in time that a small page is followed by another one elsewhere. */
  int64_t ahead;
};

static constexpr int64_t LINE = 64;

/* Functions that do nothing but ask must be inlined, or compilers take them for ones that do nothing. */
#define FLX_ASKING static inline __attribute__((always_inline))

FLX_ASKING void ask_for(const void *memory, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += LINE) __builtin_prefetch(static_cast<const char *>(memory) + i, 0, 2);
}

/* Element k = row * T::STEP + j of every column, times that of x. */
template <class T, int EACH, int R, int V>
static inline void add_products(const Product<T> &p, const float *x, const typename T::Stored *row, int j, F (&sums)[R][V]) {
  F b[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) b[v] = T::load(row, v * LANES, j);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sums[r][v] = f_fma(b[v], f_set(x[v / EACH * p.group + r * p.ldx]), sums[r][v]);
}

/* V vectors of columns from `column` on. */
template <class T, int GROUP, int R, int V> static void accumulate(const Product<T> &p, int64_t column) {
  constexpr int EACH = GROUP > LANES ? GROUP / LANES : V;
  const float *x = GROUP ? p.x + column / GROUP * p.group : p.x;
  const auto row = [&](int64_t k) { return p.b + k / T::STEP * p.ldb + column * T::COLUMN; };
  F sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) sums[r][v] = f_load(p.out + r * p.ldo + column + v * LANES);
  int64_t k = p.from;
  for (; k < p.to && (T::STEP > 1 && k % T::STEP != 0); k++) add_products<T, EACH>(p, x + k, row(k), static_cast<int>(k % T::STEP), sums);
  for (; k + T::STEP <= p.to; k += T::STEP) {
    if (T::ASKS) ask_for(row(k) + p.ahead, V * LANES * T::COLUMN);
#pragma GCC unroll 8
    for (int j = 0; j < T::STEP; j++) add_products<T, EACH>(p, x + k + j, row(k), j, sums);
  }
  for (; k < p.to; k++) add_products<T, EACH>(p, x + k, row(k), static_cast<int>(k % T::STEP), sums);
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) f_store(p.out + r * p.ldo + column + v * LANES, sums[r][v]);
}

/* For any number of queries up to R, and of columns that is a multiple of LANES. */
template <class T, int GROUP = 0, int R = QUERIES> static void multiply(int64_t rows, const Product<T> &p, int64_t columns) {
  if (rows != R) {
    if constexpr (R > 1) multiply<T, GROUP, R - 1>(rows, p, columns);
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
    for (; c + 2 * V * LANES <= columns; c += 2 * V * LANES) accumulate<T, GROUP, R, 2 * V>(p, c);
  for (; c + V * LANES <= columns; c += V * LANES) accumulate<T, GROUP, R, V>(p, c);
  for (; c + 2 * LANES <= columns; c += 2 * LANES) accumulate<T, GROUP, R, 2>(p, c);
  for (; c < columns; c += LANES) accumulate<T, GROUP, R, 1>(p, c);
}
