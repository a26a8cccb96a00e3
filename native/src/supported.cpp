/* Compiled without any instruction set flags: it runs before anything is known of the processor. */
#include "../flexllmgen.h"

extern "C" int32_t flx_supported(void) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#if FLX_LEVEL >= 3
  if (!__builtin_cpu_supports("avx512bf16")) return 0;
#endif
#if FLX_LEVEL >= 2
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vnni"))
    return 0;
#endif
#if FLX_LEVEL >= 1
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c")) return 0;
#endif
#endif
  return 1;
}
