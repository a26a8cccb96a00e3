/*
 * Tests of one kernel library, given by its path: every op against naive loops in f64, within the bounds that flexllmgen.h states. Exits with 0 if all
 * pass, with 1 if not, and with NOT_HERE if this processor does not run the library.
 */
#include <chrono>
#include <cstdio>

#include "harness.h"

static constexpr int NOT_HERE = 77;

int main(int count, char **arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: kernel-tests LIBRARY\n");
    return 2;
  }
  const Library lib = open_library(arguments[1]);
  if (lib.abi() != FLX_ABI) {
    std::fprintf(stderr, "%s: has version %d of the interface, %d expected\n", arguments[1], lib.abi(), FLX_ABI);
    return 2;
  }
  if (!lib.supported()) {
    std::printf("%s: this processor does not run it\n", lib.isa());
    return NOT_HERE;
  }
  const auto start = std::chrono::steady_clock::now();
  Test test(lib);
  for (const auto part : {test_rest, test_elements, test_linear, test_exactness, test_experts, test_attention, test_sampling}) part(test);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%s: %d passed, %d failed (%.1f s)\n", lib.isa(), test.passed, test.failed, seconds.count());
  return test.failed == 0 ? 0 : 1;
}
