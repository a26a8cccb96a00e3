#include "tiles.h"

#if defined(FLX_ISA_TILES)
/* Loading sizes takes 200 cycles, so that they stay while they are the same. */
static thread_local int64_t sizes_now = 0;

void use_tiles(int64_t first, int64_t second, int64_t bytes) {
  const int64_t sizes = first | second << 8 | bytes << 16;
  if (sizes == sizes_now) return;
  tiles_begin(TileSizes(first, second, bytes));
  sizes_now = sizes;
}

void end_tiles() {
  if (sizes_now != 0) tiles_end();
  sizes_now = 0;
}
#else
void end_tiles() {}
#endif
