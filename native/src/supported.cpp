/* Compiled without any instruction set flags: it runs before anything is known of the processor. */
#include "../flexllmgen.h"

#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(__aarch64__) && defined(_WIN32)
#include <windows.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if !defined(FLX_EMULATE_TILES)
/* Tiles of bytes and bf16, for all threads of this process: Linux reserves memory for them where it is asked to. Other systems are not asked. */
static bool gets_tiles() {
#if defined(__linux__)
  constexpr unsigned AMX_TILE = 1u << 24, AMX_BF16 = 1u << 22, AMX_INT8 = 1u << 25, ALL = AMX_TILE | AMX_BF16 | AMX_INT8;
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18; /* ARCH_REQ_XCOMP_PERM and XFEATURE_XTILEDATA of the kernel's headers */
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & ALL) != ALL) return false;
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return false;
#endif
}
#endif

static bool has_level(int level) {
  __builtin_cpu_init();
  if (level >= 3 && !__builtin_cpu_supports("avx512bf16")) return false;
  if (level >= 2 && (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
                     !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vnni")))
    return false;
  if (level >= 1 && (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))) return false;
#if !defined(FLX_EMULATE_TILES)
  if (level >= 4 && !gets_tiles()) return false;
#endif
  return true;
}
#elif defined(__aarch64__) && defined(__APPLE__)
static bool has_feature(const char *name) {
  int32_t value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, nullptr, 0) == 0 && value != 0;
}

static bool has_level(int level) {
  return (level < 1 || has_feature("hw.optional.arm.FEAT_DotProd")) && (level < 2 || has_feature("hw.optional.arm.FEAT_I8MM"));
}
#elif defined(__aarch64__) && defined(_WIN32)
static bool has_level(int level) {
  /* PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE and PF_ARM_V82_I8MM_INSTRUCTIONS_AVAILABLE; older headers lack the second. */
  constexpr DWORD DOT_PRODUCTS = 43, MATRIX_PRODUCTS = 66;
  return (level < 1 || IsProcessorFeaturePresent(DOT_PRODUCTS)) && (level < 2 || IsProcessorFeaturePresent(MATRIX_PRODUCTS));
}
#elif defined(__aarch64__) && defined(__linux__)
static bool has_level(int level) {
  /* HWCAP_ASIMDDP and HWCAP2_I8MM of the kernel's asm/hwcap.h; older headers lack the second. */
  constexpr unsigned long DOT_PRODUCTS = 1ul << 20, MATRIX_PRODUCTS = 1ul << 13;
  return (level < 1 || (getauxval(AT_HWCAP) & DOT_PRODUCTS)) && (level < 2 || (getauxval(AT_HWCAP2) & MATRIX_PRODUCTS));
}
#else
static bool has_level(int level) { return level == 0; }
#endif

extern "C" int32_t flx_supported(void) { return has_level(FLX_LEVEL); }
