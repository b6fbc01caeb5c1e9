// Counts the arithmetic of the matrix products, convolutions and attention that this thread runs, gradients included.
#pragma once
#include <cstdint>

namespace heterodyne::flops {

void start();
void stop();
uint64_t products();
uint64_t convolutions();

}  // namespace heterodyne::flops
