// Networks in files that PyTorch wrote: TorchScript programs, and packages of compiled code (torch.export and
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
  // The file's description of itself, JSON; empty if there is none.
  virtual rust::String about() const = 0;
  // Its outputs for the images x, with the program's names, or empty names if it has none.
  virtual rust::Vec<Named> run(size_t x) = 0;
};

// device: 0 is the CPU, 1 the first CUDA device.
std::unique_ptr<Package> load_torchscript(rust::Str path, uint8_t device);
std::unique_ptr<Package> load_compiled(rust::Str path, uint8_t device);

// The kind of device for which a package was compiled, as in its metadata (`cpu`, `cuda`); empty if it does not say.
// Runs nothing of it.
rust::String compiled_for(rust::Str path);

}  // namespace heterodyne::script
