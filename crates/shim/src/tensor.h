// Tensors on their way between Rust and C++: addresses of at::Tensor objects.
#pragma once
#include <cstddef>
#include <utility>

#include <ATen/core/Tensor.h>

namespace heterodyne {

// The tensor at an address, which its owner keeps.
inline const at::Tensor& tensor(size_t address) { return *reinterpret_cast<const at::Tensor*>(address); }

// The same, undefined if the address is 0.
inline at::Tensor tensor_or_none(size_t address) { return address == 0 ? at::Tensor() : tensor(address); }

// A new object that the caller owns.
inline size_t give(at::Tensor t) { return reinterpret_cast<size_t>(new at::Tensor(std::move(t))); }

}  // namespace heterodyne
