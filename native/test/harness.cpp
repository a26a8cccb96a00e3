#include "harness.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

/* Failures beyond these say nothing new. */
static constexpr int MOST_MESSAGES = 20;

template <class F> static void find(void *handle, const char *name, F *function) {
  void *symbol = dlsym(handle, name);
  if (!symbol) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  std::memcpy(function, &symbol, sizeof symbol);
}

Library open_library(const char *file) {
  void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  Library lib{};
#define FIND(name) find(handle, "flx_" #name, &lib.name)
  FIND(abi);
  FIND(isa);
  FIND(supported);
  FIND(team_create);
  FIND(team_free);
  FIND(memory_create);
  FIND(memory_free);
  FIND(memory_claim);
  FIND(copy);
  FIND(exact);
  FIND(packs);
  FIND(pack);
  FIND(linear_scratch_bytes);
  FIND(moe_scratch_bytes);
  FIND(arguments_bytes);
  FIND(run);
  FIND(sample_row_bytes);
  FIND(sample_result_bytes);
  FIND(sample_scratch_bytes);
  FIND(sample);
  FIND(operations);
  FIND(read);
#undef FIND
  return lib;
}

Pages::Pages(int64_t bytes) {
  const int64_t page = sysconf(_SC_PAGESIZE);
  size = (bytes + page - 1) / page * page;
  void *memory = mmap(nullptr, static_cast<size_t>(size + page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  base = static_cast<uint8_t *>(memory);
  if (memory == MAP_FAILED || mprotect(base + size, static_cast<size_t>(page), PROT_NONE) != 0) {
    std::perror("mmap");
    std::exit(2);
  }
}

Pages::~Pages() {
  if (base) munmap(base, static_cast<size_t>(size + sysconf(_SC_PAGESIZE)));
}

Array<float> random_floats(Random &random, int64_t count, double least, double most) {
  Array<float> values(count);
  for (int64_t i = 0; i < count; i++) values[i] = random.between(least, most);
  return values;
}

Test::Test(const Library &library) : lib(library) {
  for (int i = 0; i < 3; i++) teams[i] = lib.team_create(i + 1);
}

Test::~Test() {
  for (flx_team *team : teams) lib.team_free(team);
}

void Test::expect(bool ok, const std::string &what) {
  ok ? passed++ : failed++;
  if (!ok && failed <= MOST_MESSAGES) std::printf("  failed: %s: %s\n", lib.isa(), what.c_str());
}

void Test::expect_close(const float *got, const std::vector<double> &expected, const std::vector<double> &bounds, const std::string &what) {
  for (size_t i = 0; i < expected.size(); i++) {
    const double value = static_cast<double>(got[i]);
    const bool ok = std::isnan(expected[i]) ? std::isnan(value) : value == expected[i] || (std::isfinite(expected[i]) && std::fabs(value - expected[i]) <= bounds[i]);
    if (ok) continue;
    char message[160];
    std::snprintf(message, sizeof message, ": [%zu]: %.9g expected, got %.9g; error %.3g, bound %.3g", i, expected[i], value, value - expected[i], bounds[i]);
    return expect(false, what + message);
  }
  expect(true, what);
}
