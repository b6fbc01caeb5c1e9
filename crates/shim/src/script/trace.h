// A network's forward pass as a TorchScript program, recorded by libtorch's tracer, and as a list of steps for other
// formats.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/frontend/tracer.h>

#include "rust/cxx.h"

namespace heterodyne::script {

struct Program;

class Trace {
 public:
  // Starts to record on this thread. Parameters and buffers become attributes of modules that are nested by the dots in
  // their names.
  Trace(rust::Slice<const rust::String> names, rust::Slice<const size_t> tensors, rust::Slice<const bool> trained,
        size_t x);
  // Ends the recording; y is the output of the pass.
  void finish(size_t y);
  // The steps. Values are numbered in the order in which they first appear, the images first.
  Program program() const;
  // Replaces integers among the values by the number of images times a factor.
  void free_batch(rust::Slice<const size_t> values, rust::Slice<const int64_t> factors);
  // The program as a file's bytes, without the shapes of its values.
  std::unique_ptr<std::string> save(rust::Str about);

 private:
  torch::jit::Module module;
  std::shared_ptr<torch::jit::tracer::TracingState> state;
  std::shared_ptr<torch::jit::Graph> graph;
  std::vector<torch::jit::Value*> values;

  void name_constants();
};

std::unique_ptr<Trace> trace_begin(rust::Slice<const rust::String> names, rust::Slice<const size_t> tensors,
                                   rust::Slice<const bool> trained, size_t x);
void trace_abandon();

}  // namespace heterodyne::script
