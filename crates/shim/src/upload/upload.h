// Copies to a GPU on a stream of its own, while the GPU computes on the stream of the caller.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include <c10/core/Stream.h>

#include "rust/cxx.h"

namespace heterodyne::upload {

class Upload {
 public:
  Upload();

  // A copy of the tensor on the first GPU. The caller's stream waits for it, the host does not if its memory is pinned.
  size_t copy(size_t x) const;

 private:
  c10::Stream side;
};

std::unique_ptr<Upload> begin();

// `length` zero bytes on the CPU, in memory that a GPU reads directly if `pinned`.
size_t bytes(size_t length, bool pinned);

}  // namespace heterodyne::upload
