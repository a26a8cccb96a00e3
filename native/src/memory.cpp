#include <cstdlib>
#include <cstring>

#include "../flexllmgen.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(_WIN32)
#include <malloc.h>
#endif

/*
 * Of x86 and most ARM systems. Smaller memory begins at a page, which is what disks read and write; what is smaller still, at a cache line. For what is left
 * behind the last whole huge page none is asked: rounded up, each of many tensors would take up to 2 MiB that nobody planned.
 */
static constexpr int64_t HUGE_PAGE = 2 << 20;
static constexpr int64_t PAGE = 4096;
static constexpr int64_t LINE = 64;

extern "C" void *flx_memory_create(int64_t bytes) {
  const int64_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : bytes >= PAGE ? PAGE : LINE;
  const int64_t unit = bytes >= PAGE ? PAGE : LINE;
  const size_t size = static_cast<size_t>((bytes + unit - 1) / unit * unit);
#if defined(_WIN32)
  return _aligned_malloc(size > 0 ? size : LINE, static_cast<size_t>(alignment));
#else
  void *memory = nullptr;
  if (posix_memalign(&memory, static_cast<size_t>(alignment), size > 0 ? size : LINE) != 0) return nullptr;
#if defined(__linux__)
  if (alignment == HUGE_PAGE) madvise(memory, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
#endif
  return memory;
#endif
}

extern "C" void flx_memory_free(void *memory) {
#if defined(_WIN32)
  _aligned_free(memory);
#else
  free(memory);
#endif
}

extern "C" void flx_memory_claim(void *memory, int64_t bytes) {
  volatile char *const first = static_cast<char *>(memory);
  for (int64_t at = 0; at < bytes; at += PAGE) first[at] = 0;
}

extern "C" void flx_copy(void *to, const void *from, int64_t bytes) { std::memcpy(to, from, static_cast<size_t>(bytes)); }
