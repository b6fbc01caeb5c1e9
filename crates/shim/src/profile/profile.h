// The time of the operators that a thread runs.
#pragma once
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::profile {

struct Operator;

void start();
void stop();
rust::Vec<Operator> operators();

}  // namespace heterodyne::profile
