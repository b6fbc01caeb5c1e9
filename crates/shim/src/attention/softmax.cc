#include "attention/softmax.h"

#include <algorithm>
#include <vector>

#include <ATen/Parallel.h>

#define HETERODYNE_KERNELS "attention/kernels.h"
#include "simd/levels.h"

namespace heterodyne::attention {

template <class T>
void softmax(const Rows& rows, float scale, T* scores) {
  HETERODYNE_DISPATCH(softmax(rows, scale, scores));
}

template <class T>
void softmax_gradient(const Rows& rows, float scale, const T* p, T* d, float* d_bias) {
  HETERODYNE_DISPATCH(softmax_gradient(rows, scale, p, d, d_bias));
}

template void softmax(const Rows&, float, float*);
template void softmax(const Rows&, float, c10::BFloat16*);
template void softmax_gradient(const Rows&, float, const float*, float*, float*);
template void softmax_gradient(const Rows&, float, const c10::BFloat16*, c10::BFloat16*, float*);

}  // namespace heterodyne::attention
