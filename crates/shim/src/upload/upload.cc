#include "upload/upload.h"

#include <ATen/Functions.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "tensor.h"

namespace heterodyne::upload {
namespace {

const at::Device kGpu(at::kCUDA, 0);

}  // namespace

Upload::Upload()
    : side(c10::impl::VirtualGuardImpl(at::kCUDA).getStreamFromGlobalPool(kGpu, /*isHighPriority=*/false)) {}

size_t Upload::copy(size_t x) const {
  const c10::Stream own = c10::impl::VirtualGuardImpl(at::kCUDA).getStream(kGpu);
  c10::Event copied(at::kCUDA);
  at::Tensor out;
  {
    const c10::StreamGuard guard(side);
    out = tensor(x).to(kGpu, tensor(x).scalar_type(), /*non_blocking=*/true);
    copied.record(side);
  }
  copied.block(own);
  // The memory belongs to the side stream; it must not be used again there before this stream is done with it.
  out.record_stream(own);
  return give(std::move(out));
}

std::unique_ptr<Upload> begin() { return std::make_unique<Upload>(); }

size_t bytes(size_t length, bool pinned) {
  return give(at::zeros({static_cast<int64_t>(length)}, at::TensorOptions().dtype(at::kByte).pinned_memory(pinned)));
}

}  // namespace heterodyne::upload
