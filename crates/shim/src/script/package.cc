#include "script/package.h"

#include <stdexcept>

#include <torch/csrc/jit/serialization/import.h>

#include "heterodyne-shim/src/script/ffi.rs.h"
#include "tensor.h"

namespace heterodyne::script {
namespace {

const char* const ABOUT = "heterodyne.json";

Named named(std::string name, const at::Tensor& tensor) { return Named{rust::String(name), give(tensor.detach())}; }

class TorchScript : public Package {
 public:
  TorchScript(const std::string& path, at::Device device) {
    torch::jit::ExtraFilesMap files{{ABOUT, ""}};
    module = torch::jit::load(path, device, files);
    module.eval();
    text = files[ABOUT];
  }

  rust::String about() const override { return rust::String::lossy(text); }

  rust::Vec<Named> run(size_t x) override {
    const c10::IValue out = module.forward({*reinterpret_cast<const at::Tensor*>(x)});
    rust::Vec<Named> outputs;
    if (out.isTensor()) {
      outputs.push_back(named("", out.toTensor()));
      return outputs;
    }
    if (!out.isGenericDict()) {
      throw std::invalid_argument("its forward gives " + out.type()->str() +
                                  "; a tensor (the logits) or Dict[str, Tensor] is needed");
    }
    for (const auto& entry : out.toGenericDict()) {
      if (!entry.key().isString() || !entry.value().isTensor()) {
        throw std::invalid_argument("its forward gives " + out.type()->str() +
                                    "; a tensor (the logits) or Dict[str, Tensor] is needed");
      }
      outputs.push_back(named(entry.key().toStringRef(), entry.value().toTensor()));
    }
    return outputs;
  }

 private:
  torch::jit::Module module;
  std::string text;
};

class Compiled : public Package {
 public:
  Compiled(const std::string& path, uint8_t device)
      : loader(path, "model", false, 1, static_cast<c10::DeviceIndex>(device == 0 ? -1 : 0)) {}

  rust::String about() const override {
    const auto metadata = const_cast<torch::inductor::AOTIModelPackageLoader&>(loader).get_metadata();
    const auto found = metadata.find("heterodyne");
    return found == metadata.end() ? rust::String() : rust::String::lossy(found->second);
  }

  rust::Vec<Named> run(size_t x) override {
    rust::Vec<Named> outputs;
    for (const at::Tensor& output : loader.run({*reinterpret_cast<const at::Tensor*>(x)}))
      outputs.push_back(named("", output));
    return outputs;
  }

 private:
  torch::inductor::AOTIModelPackageLoader loader;
};

}  // namespace

std::unique_ptr<Package> load_torchscript(rust::Str path, uint8_t device) {
  return std::make_unique<TorchScript>(std::string(path),
                                       device == 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, 0));
}

std::unique_ptr<Package> load_compiled(rust::Str path, uint8_t device) {
  return std::make_unique<Compiled>(std::string(path), device);
}

rust::String compiled_for(rust::Str path) {
  const auto metadata =
      torch::inductor::AOTIModelPackageLoader::load_metadata_from_package(std::string(path), "model");
  const auto found = metadata.find("AOTI_DEVICE_KEY");
  return found == metadata.end() ? rust::String() : rust::String::lossy(found->second);
}

}  // namespace heterodyne::script
