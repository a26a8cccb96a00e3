/* What every test needs: a kernel library, counted checks, random numbers, memory whose end is guarded. */
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "../flexllmgen.h"

/* Half a unit in the last place of 1, as f32 rounds. */
static constexpr double U = 0x1p-24;

/* The functions of a library, found by name, so that one program tests libraries for any processor. */
struct Library {
  decltype(&flx_abi) abi;
  decltype(&flx_isa) isa;
  decltype(&flx_supported) supported;
  decltype(&flx_team_create) team_create;
  decltype(&flx_team_free) team_free;
  decltype(&flx_memory_create) memory_create;
  decltype(&flx_memory_free) memory_free;
  decltype(&flx_memory_claim) memory_claim;
  decltype(&flx_copy) copy;
  decltype(&flx_exact) exact;
  decltype(&flx_packs) packs;
  decltype(&flx_pack) pack;
  decltype(&flx_linear_scratch_bytes) linear_scratch_bytes;
  decltype(&flx_moe_scratch_bytes) moe_scratch_bytes;
  decltype(&flx_arguments_bytes) arguments_bytes;
  decltype(&flx_run) run;
  decltype(&flx_sample_row_bytes) sample_row_bytes;
  decltype(&flx_sample_result_bytes) sample_result_bytes;
  decltype(&flx_sample_scratch_bytes) sample_scratch_bytes;
  decltype(&flx_sample) sample;
  decltype(&flx_operations) operations;
  decltype(&flx_read) read;
};

/* Ends the program if the file is no such library. */
Library open_library(const char *file);

/* splitmix64: the same numbers everywhere. */
class Random {
public:
  explicit Random(uint64_t seed) : state(seed) {}
  uint64_t bits() {
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  int64_t below(int64_t count) { return static_cast<int64_t>(bits() % static_cast<uint64_t>(count)); }
  /* in [0, 1) */
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  float between(double least, double most) { return static_cast<float>(least + uniform() * (most - least)); }

private:
  uint64_t state;
};

/* Pages that end at one that may not be touched: neither reading nor writing behind the end goes unnoticed. */
class Pages {
public:
  explicit Pages(int64_t bytes);
  Pages(Pages &&other) noexcept : base(other.base), size(other.size) { other.base = nullptr; }
  Pages(const Pages &) = delete;
  Pages &operator=(const Pages &) = delete;
  ~Pages();
  /* As many bytes as asked for, the last ones before the guarded page. */
  uint8_t *before_end(int64_t bytes) const { return base + size - bytes; }

private:
  uint8_t *base;
  int64_t size;
};

/* An array whose end is guarded; aligned as its elements need, and hardly ever better. All bytes are 0xff, which as floats are no numbers. */
template <class T> class Array {
public:
  explicit Array(int64_t length) : count(length), pages(bytes()) { std::memset(data(), 0xff, static_cast<size_t>(bytes())); }
  T *data() const { return reinterpret_cast<T *>(pages.before_end(bytes())); }
  int64_t size() const { return count; }
  int64_t bytes() const { return count * static_cast<int64_t>(sizeof(T)); }
  T &operator[](int64_t i) const { return data()[i]; }

private:
  int64_t count;
  Pages pages;
};

Array<float> random_floats(Random &random, int64_t count, double least = -1, double most = 1);

/* Bits are equal: another zero, or another kind of no number, is a difference. */
template <class T> bool same_bytes(const Array<T> &a, const Array<T> &b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), static_cast<size_t>(a.bytes())) == 0;
}

class Test {
public:
  explicit Test(const Library &library);
  Test(const Test &) = delete;
  Test &operator=(const Test &) = delete;
  ~Test();

  const Library lib;
  /* Of 1, 2 and 3 threads. */
  flx_team *teams[3];
  int passed = 0;
  int failed = 0;

  void expect(bool ok, const std::string &what);
  /* One check: no |got[i] - expected[i]| is above bound[i]; where no number is expected, there is none. */
  void expect_close(const float *got, const std::vector<double> &expected, const std::vector<double> &bounds, const std::string &what);
  template <class T> void expect_same(const Array<T> &a, const Array<T> &b, const std::string &what) { expect(same_bytes(a, b), what + ": other bits"); }

  /* Runs one step on two threads, or on those of `team`. */
  void run(int64_t op, const void *arguments, flx_team *team = nullptr) const {
    const flx_step step{op, arguments};
    lib.run(team ? team : teams[1], &step, 1);
  }
};

void test_linear(Test &test);
void test_exactness(Test &test);
void test_elements(Test &test);
void test_attention(Test &test);
void test_experts(Test &test);
void test_sampling(Test &test);
void test_rest(Test &test);
