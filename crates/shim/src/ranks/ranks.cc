#include "ranks/ranks.h"

#include <dlfcn.h>

#include <chrono>
#include <cstdlib>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Functions.h>
#include <c10/util/Logging.h>
#include <torch/csrc/autograd/custom_function.h>
#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "tensor.h"

namespace heterodyne::ranks {
namespace {

using Milliseconds = std::chrono::milliseconds;
using Store = c10::intrusive_ptr<c10d::Store>;
using ProcessGroup = c10::intrusive_ptr<c10d::ProcessGroup>;
using Backend = c10::intrusive_ptr<c10d::Backend>;

// PyTorch's variable that chooses the network interfaces, separated by commas.
constexpr const char* kInterfaces = "GLOO_SOCKET_IFNAME";

// c10d::ProcessGroupNCCL and its options of libtorch 2.11 have 1,112 and 248 bytes; their header needs CUDA's and
// NCCL's.
constexpr size_t kRoom = 16384;

// c10d keeps its last 2,000 operations for a dump that nothing here asks for. Its table of groups is not locked
// (FlightRecorderDetail.hpp of 2.11, line 93): two threads that begin with groups of their own can crash in it. A
// variable that is set is left. This runs before `main`, when no other thread could be reading the environment.
__attribute__((constructor)) void record_no_operations() {
  if (std::getenv("TORCH_NCCL_TRACE_BUFFER_SIZE") == nullptr) setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0);
}

std::string text(rust::Str s) { return {s.data(), s.size()}; }

Store below(const Store& store, const char* name) { return c10::make_intrusive<c10d::PrefixStore>(name, store); }

Backend gloo(const Store& store, int rank, int size, Milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(timeout);
  if (const char* names = std::getenv(kInterfaces)) {
    std::stringstream list(names);
    for (std::string name; std::getline(list, name, ',');)
      options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForInterface(name));
  } else {
    options->devices.push_back(c10d::ProcessGroupGloo::createDefaultDevice());
  }
  return c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, std::move(options));
}

template <typename F>
F function(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "this libtorch has no NCCL (", name, " is missing)");
  return reinterpret_cast<F>(found);
}

// An object of a class that only the library loaded at run time knows, of which `Base` is the first base.
template <typename Base, typename Construct>
c10::intrusive_ptr<Base> object(Construct construct) {
  void* room = ::operator new(kRoom);
  try {
    construct(room);
  } catch (...) {
    ::operator delete(room);
    throw;
  }
  return c10::intrusive_ptr<Base>::unsafe_steal_from_new(static_cast<Base*>(room));
}

Backend nccl(const Store& store, int rank, int size, Milliseconds timeout) {
  using Options = c10d::Backend::Options;
  const auto make_options = function<void (*)(void*, bool)>("_ZN4c10d16ProcessGroupNCCL7OptionsC1Eb");
  const auto make = function<void (*)(void*, Store, int, int, c10::intrusive_ptr<Options>)>(
      "_ZN4c10d16ProcessGroupNCCLC1EN3c1013intrusive_ptrINS_5StoreENS1_6detail34intrusive_target_default_null_typeIS3_"
      "EEEEiiNS2_INS0_7OptionsENS5_IS8_EEEE");
  auto options = object<Options>([&](void* room) { make_options(room, /*is_high_priority_stream=*/false); });
  options->timeout = timeout;
  return object<c10d::Backend>([&](void* room) { make(room, store, rank, size, options); });
}

ProcessGroup group(const Store& store, int rank, int size, const Backend& cpu, const std::optional<Backend>& gpu) {
  auto made = c10::make_intrusive<c10d::ProcessGroup>(store, rank, size);
  made->setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, cpu);
  if (gpu) made->setBackend(c10::kCUDA, c10d::ProcessGroup::BackendType::NCCL, *gpu);
  made->setDefaultBackend(gpu ? c10d::ProcessGroup::BackendType::NCCL : c10d::ProcessGroup::BackendType::GLOO);
  return made;
}

void reduce(const c10d::ProcessGroup& group, const at::Tensor& x) {
  std::vector<at::Tensor> one{x};
  // c10d's methods are not const.
  const_cast<c10d::ProcessGroup&>(group).allreduce(one)->wait();
}

c10d::ProcessGroup& process_group(torch::autograd::AutogradContext* context) {
  return *reinterpret_cast<c10d::ProcessGroup*>(context->saved_data["group"].toInt());
}

// The rows of all ranks. A rank's rows have a part in the loss of every rank, so their gradients are summed.
struct Gather : torch::autograd::Function<Gather> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& rows, int64_t group) {
    context->saved_data["group"] = group;
    auto& ranks = process_group(context);
    std::vector<int64_t> shape = rows.sizes().vec();
    shape[0] *= ranks.getSize();
    at::Tensor own = rows.contiguous(), all = at::empty(shape, rows.options());
    ranks._allgather_base(all, own)->wait();
    return all;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    auto& ranks = process_group(context);
    at::Tensor gradient = gradients[0].contiguous().clone();
    reduce(ranks, gradient);
    const int64_t rows = gradient.size(0) / ranks.getSize();
    return {gradient.narrow(0, ranks.getRank() * rows, rows), at::Tensor()};
  }
};

// The sum over all ranks, of the value and of the gradient.
struct Sum : torch::autograd::Function<Sum> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, int64_t group) {
    context->saved_data["group"] = group;
    at::Tensor sum = x.contiguous().clone();
    reduce(process_group(context), sum);
    return sum;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    at::Tensor gradient = gradients[0].contiguous().clone();
    reduce(process_group(context), gradient);
    return {gradient, at::Tensor()};
  }
};

std::vector<uint8_t> bytes(rust::Str s) { return {s.begin(), s.end()}; }

}  // namespace

Message::Message(const ProcessGroup& group, int32_t text)
    : own(at::full({1}, text, at::kInt)), all(at::empty({group->getSize()}, at::kInt)) {
  work = group->_allgather_base(all, own);
}

rust::Vec<int32_t> Message::received() const {
  work->wait();
  rust::Vec<int32_t> out;
  for (int64_t i = 0; i < all.numel(); ++i) out.push_back(all.const_data_ptr<int32_t>()[i]);
  return out;
}

Group::Group(Store meeting, int rank, int size, Milliseconds timeout, bool cuda) : store(std::move(meeting)) {
  std::optional<Backend> gpu;
  if (cuda) gpu = nccl(below(store, "nccl"), rank, size, timeout);
  data = group(store, rank, size, gloo(below(store, "data"), rank, size, timeout), gpu);
  control = group(store, rank, size, gloo(below(store, "control"), rank, size, timeout), std::nullopt);
}

void Group::all_reduce(size_t x) const { reduce(*data, tensor(x)); }

void Group::broadcast(Tensors tensors) const {
  for (const size_t address : tensors) {
    at::Tensor own = tensor(address).detach();
    // Gloo and NCCL take dense memory only; a copy serves where the tensor's is not.
    at::Tensor dense = own.is_non_overlapping_and_dense() ? own : own.contiguous();
    std::vector<at::Tensor> one{dense};
    data->broadcast(one)->wait();
    if (!dense.is_same(own)) own.copy_(dense);
  }
}

size_t Group::gather(size_t rows) const {
  return give(Gather::apply(tensor(rows), reinterpret_cast<int64_t>(data.get())));
}

size_t Group::sum(size_t x) const { return give(Sum::apply(tensor(x), reinterpret_cast<int64_t>(data.get()))); }

std::unique_ptr<Message> Group::send(int32_t text) const { return std::make_unique<Message>(control, text); }

void Group::put(rust::Str key, rust::Str value) const { store->set(text(key), bytes(value)); }
bool Group::has(rust::Str key) const { return store->check({text(key)}); }

rust::String Group::get(rust::Str key) const {
  const std::vector<uint8_t> value = store->get(text(key));
  return rust::String::lossy(reinterpret_cast<const char*>(value.data()), value.size());
}

Reducer::Reducer(const Group& group, Tensors parameters, bool half) {
  std::vector<at::Tensor> params;
  for (const size_t address : parameters) params.push_back(tensor(address));
  const size_t first = c10d::kDefaultFirstBucketBytes, cap = c10d::kDefaultBucketBytesCap;
  auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(params, {first, cap});
  // Gradients come in about the reverse order of the parameters.
  const std::vector<std::vector<size_t>> reversed(buckets.rbegin(), buckets.rend());
  const std::vector<bool> sparse(params.size(), false);
  // A method that has ended leaves parameters without gradient, so these are looked for.
  reducer = std::make_unique<c10d::Reducer>(
      std::move(params), reversed, group.tensors(), sparse, static_cast<int64_t>(cap), /*find_unused_parameters=*/true,
      /*gradient_as_bucket_view=*/true, std::unordered_map<size_t, std::string>(), static_cast<int64_t>(first),
      /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<int64_t>());
  if (half) reducer->register_builtin_comm_hook(c10d::BuiltinCommHookType::FP16_COMPRESS);
}

void Reducer::prepare(size_t total) const { reducer->prepare_for_backward({tensor(total)}); }

std::unique_ptr<Group> connect(rust::Str host, uint16_t port, bool serves, rust::Str prefix, int32_t rank, int32_t size,
                               uint64_t timeout_ms, bool cuda) {
  // Its warnings speak of constructors of Python's and of host names; its errors come as exceptions.
  FLAGS_caffe2_log_level = static_cast<int>(c10::GLOG_ERROR);
  c10d::TCPStoreOptions options;
  options.port = port;
  options.isServer = serves;
  options.timeout = Milliseconds(timeout_ms);
  options.waitWorkers = false;
  Store store = c10::make_intrusive<c10d::TCPStore>(text(host), options);
  store = c10::make_intrusive<c10d::PrefixStore>(text(prefix), store);
  return std::make_unique<Group>(std::move(store), rank, size, options.timeout, cuda);
}

std::unique_ptr<Reducer> reducer(const Group& group, Tensors parameters, bool half) {
  return std::make_unique<Reducer>(group, parameters, half);
}

}  // namespace heterodyne::ranks
