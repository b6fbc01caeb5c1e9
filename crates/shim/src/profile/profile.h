// The time of the operators that a thread runs, and autograd's threads for it.
#pragma once
#include <cstdint>

#include "rust/cxx.h"

namespace heterodyne::profile {

struct Operator;

void start();
void stop();
rust::Vec<Operator> operators();

// Runs `work` on another thread with this one's state, as autograd does for a GPU. For tests.
void elsewhere(rust::Fn<void()> work);

}  // namespace heterodyne::profile
