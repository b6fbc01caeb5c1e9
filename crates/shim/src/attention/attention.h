// Multi-head self-attention that records a graph but does not save the scores. Tensors cross as in bridge.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::attention {

bool attention_suits(size_t qkv);
size_t self_attention(size_t qkv, int64_t heads, size_t bias);

}  // namespace heterodyne::attention
