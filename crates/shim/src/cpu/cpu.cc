#include "cpu/cpu.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace heterodyne::cpu {
namespace {

#if defined(__x86_64__)
// Features for which compilers have no common name, from the processor's own tables (Intel's manual, volume 2, CPUID).
bool vector_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);  // AVX512_BF16
}

bool matrix_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false;  // AMX-BF16, AMX-TILE
  // Whether the system saves the tiles when it switches threads.
  unsigned low = 0, high = 0;
  asm("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low >> 17 & 3) == 3;
}
#endif

Level detect() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return Level::kBaseline;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl")) {
    return Level::kAvx2;
  }
  if (matrix_bf16()) return Level::kAmx;
  return vector_bf16() ? Level::kAvx512Bf16 : Level::kAvx512;
#else
  return Level::kBaseline;
#endif
}

bool from_amd() {
#if defined(__x86_64__)
  return __builtin_cpu_is("amd");
#else
  return false;
#endif
}

// A level's name, and the values of the variables that limit libtorch's kernels, oneDNN and MKL to it.
struct Named {
  Level level;
  const char *name, *aten, *onednn, *mkl;
};
constexpr Named kLevels[] = {
    {Level::kBaseline, "baseline", "default", "SSE41", "SSE4_2"},
    {Level::kAvx2, "avx2", "avx2", "AVX2", "AVX2"},
    {Level::kAvx512, "avx512", "avx512", "AVX512_CORE", "AVX512"},
    {Level::kAvx512Bf16, "avx512bf16", "avx512", "AVX512_CORE_BF16", "AVX512"},
    {Level::kAmx, "amx", nullptr, nullptr, nullptr},
};

struct Setting {
  Level most = Level::kAmx;
  std::string complaint;
};

Setting read_setting() {
  const char* value = std::getenv("HETERODYNE_CPU");
  if (value == nullptr || *value == '\0') return {};
  std::string names;
  for (const Named& known : kLevels) {
    if (known.name == std::string(value)) return {known.level, {}};
    names += (names.empty() ? "" : ", ") + std::string(known.name);
  }
  return {Level::kAmx, "HETERODYNE_CPU is \"" + std::string(value) + "\", but the levels are " + names};
}

const Setting& setting() {
  static const Setting read = read_setting();
  return read;
}

// The libraries below follow, unless their own variables are set. They read these when they first compute. This runs
// before `main`, when no other thread could be reading the environment.
__attribute__((constructor)) void hold_libraries() {
  if (setting().most >= found()) return;
  const Named& to = kLevels[static_cast<int>(setting().most)];
  setenv("ATEN_CPU_CAPABILITY", to.aten, 0);
  setenv("ONEDNN_MAX_CPU_ISA", to.onednn, 0);
  setenv("MKL_ENABLE_INSTRUCTIONS", to.mkl, 0);
}

thread_local Level own_limit = Level::kAmx;

}  // namespace

Level found() {
  static const Level level = detect();
  return level;
}

Level level() {
  static const Level most = std::min(found(), setting().most);
  return std::min(most, own_limit);
}

Level limit(Level most) {
  const Level before = own_limit;
  own_limit = most;
  return before;
}

bool fast_bf16() {
  // Matrix instructions, or vector instructions at twice the rate of float32, which AMD's processors have and Intel's
  // do not.
  static const bool fast_vectors = from_amd();
  return level() >= Level::kAmx || (level() == Level::kAvx512Bf16 && fast_vectors);
}

int64_t second_level_cache() {
  constexpr int64_t kSmallest = 256 << 10, kLargest = 2 << 20, kUnknown = 1 << 20;
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t found = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  static const int64_t found = 0;
#endif
  // A cache that several cores share counts as one of the usual size per core.
  return found <= 0 ? kUnknown : std::clamp(found, kSmallest, kLargest);
}

rust::String complaint() { return setting().complaint; }

}  // namespace heterodyne::cpu
