#include "packed/scratch.h"

#include <cstdlib>
#include <memory>
#include <new>

namespace heterodyne::packed {
namespace {

constexpr int64_t kLine = 64 / sizeof(float);

// Memory that only grows.
struct Buffer {
  std::unique_ptr<float, decltype(&std::free)> data{nullptr, &std::free};
  int64_t size = 0;

  float* at_least(int64_t floats) {
    if (floats > size) {
      size = (floats + kLine - 1) / kLine * kLine;
      data.reset();
      data.reset(static_cast<float*>(std::aligned_alloc(64, size * sizeof(float))));
      if (!data) {
        size = 0;
        throw std::bad_alloc();
      }
    }
    return data.get();
  }
};

}  // namespace

float* scratch(int slot, int64_t floats) {
  static thread_local Buffer buffers[4];
  return buffers[slot].at_least(floats);
}

}  // namespace heterodyne::packed
