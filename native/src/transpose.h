/* Matrices that change rows for columns. */
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define FLX_SHUFFLES 1
#endif
#endif

#if defined(FLX_SHUFFLES)
/* 8 x 8 of 16 bits: three times, neighbours are dealt out in turn. */
static inline void transpose_square(const uint16_t *from, int64_t ldf, uint16_t *to, int64_t ldt) {
  typedef uint16_t Eight __attribute__((vector_size(16)));
  Eight rows[8], dealt[8];
  for (int i = 0; i < 8; i++) std::memcpy(&rows[i], from + i * ldf, 16);
#pragma GCC unroll 3
  for (int round = 0; round < 3; round++) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      dealt[2 * i] = __builtin_shufflevector(rows[i], rows[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
      dealt[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i++) rows[i] = dealt[i];
  }
  for (int i = 0; i < 8; i++) std::memcpy(to + i * ldt, &rows[i], 16);
}
#endif

/* to[c][r] = from[r][c]; ldf and ldt are elements between rows of the two. */
template <class T> static inline void transpose(const T *from, int64_t rows, int64_t columns, int64_t ldf, T *to, int64_t ldt) {
  int64_t r = 0;
#if defined(FLX_SHUFFLES)
  if constexpr (sizeof(T) == 2)
    for (; r + 8 <= rows; r += 8) {
      int64_t c = 0;
      for (; c + 8 <= columns; c += 8) transpose_square(from + r * ldf + c, ldf, to + c * ldt + r, ldt);
      for (; c < columns; c++)
        for (int64_t i = r; i < r + 8; i++) to[c * ldt + i] = from[i * ldf + c];
    }
#endif
  for (; r < rows; r++)
    for (int64_t c = 0; c < columns; c++) to[c * ldt + r] = from[r * ldf + c];
}
