// Networks in files that PyTorch has written: TorchScript programs, and packages of compiled code (torch.export and
// AOTInductor).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/api/module.h>

#include "rust/cxx.h"

namespace heterodyne::script {

struct Named;

class Package {
 public:
  virtual ~Package() = default;
  // What the file says of itself, JSON, or nothing.
  virtual rust::String about() const = 0;
  // Its outputs for the images x: names that the program gives, or none where it has no names.
  virtual rust::Vec<Named> run(size_t x) = 0;
};

// device: 0 is the CPU, 1 the first CUDA device.
std::unique_ptr<Package> load_torchscript(rust::Str path, uint8_t device);
std::unique_ptr<Package> load_compiled(rust::Str path, uint8_t device);

}  // namespace heterodyne::script
