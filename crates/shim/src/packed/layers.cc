#include "packed/layers.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include <ATen/Parallel.h>

#include "packed/normal_tail.h"
#include "packed/scratch.h"

#define HETERODYNE_KERNELS "packed/kernels.h"
#include "simd/levels.h"

namespace heterodyne::packed {

const Kernels& kernels() { return HETERODYNE_DISPATCH(kKernels); }

}  // namespace heterodyne::packed
