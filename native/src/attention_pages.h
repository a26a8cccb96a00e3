/* Pages of a row, and what is read from and written to them. */
#pragma once
#include <cstdint>

#include "../flexllmgen.h"

/* Positions of a page, or elements. */
struct Range {
  int64_t from;
  int64_t to;
};

/* [rows, head], scaled */
struct Queries {
  const float *q;
  int64_t rows;
  int64_t head;
};

/* Pages of the keys or the values of a row, of one kv head. */
struct HeadPages {
  const uint8_t *cache;
  const uint8_t *staged;
  const int32_t *pages;
  int64_t stride; /* bytes from page to page */

  const uint8_t *holding(int64_t position) const {
    const int32_t page = pages[position / FLX_PAGE];
    return page >= FLX_STAGED ? staged + (page - FLX_STAGED) * stride : cache + page * stride;
  }
};

/* Positions whose values are added up with their weights; behind the last one, weights are 0 up to a whole vector. */
struct Chosen {
  const int32_t *positions;
  const float *weights;
  int64_t count;
};

/* Rows of one head, `stride` floats apart, for positions of one page from `position` on. */
struct Appended {
  const float *k;
  const float *v;
  int64_t stride;
  int64_t position;
  int64_t count;
};
