#include "graph/graph.h"

#include <dlfcn.h>

#include <utility>

#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

namespace heterodyne::graph {
namespace {

const at::Device kGpu(at::kCUDA, 0);

// cudaStreamCaptureModeThreadLocal: other threads, which load images, may use CUDA meanwhile.
constexpr int kThisThread = 1;

// at::cuda::CUDAGraph of libtorch 2.11 has 160 bytes; its header needs CUDA's.
constexpr size_t kRoom = 1024;

void* symbol(const char* name) {
  void* found = dlsym(RTLD_DEFAULT, name);
  TORCH_CHECK(found != nullptr, "this libtorch has no CUDA graphs (", name, " is missing)");
  return found;
}

template <typename F>
F function(const char* name) {
  return reinterpret_cast<F>(symbol(name));
}

// Work that is issued on `to` waits for what was issued on `from`.
void order(const c10::Stream& from, const c10::Stream& to) {
  c10::Event event(at::kCUDA);
  event.record(from);
  event.block(to);
}

}  // namespace

// The members of at::cuda::CUDAGraph, from the library that is loaded at run time.
struct Calls {
  using Id = std::pair<unsigned long long, unsigned long long>;
  void (*construct)(void*, bool) = function<void (*)(void*, bool)>("_ZN2at4cuda9CUDAGraphC1Eb");
  void (*destroy)(void*) = function<void (*)(void*)>("_ZN2at4cuda9CUDAGraphD1Ev");
  void (*begin)(void*, Id, int) =
      function<void (*)(void*, Id, int)>("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
  void (*end)(void*) = function<void (*)(void*)>("_ZN2at4cuda9CUDAGraph11capture_endEv");
  void (*replay)(void*) = function<void (*)(void*)>("_ZN2at4cuda9CUDAGraph6replayEv");
  Id (*pool)() = function<Id (*)()>("_ZN2at4cuda17graph_pool_handleEv");
};

namespace {

const Calls& calls() {
  static const Calls found;
  return found;
}

}  // namespace

OwnStream::OwnStream() : before(c10::impl::VirtualGuardImpl(at::kCUDA).getStream(kGpu)) {
  const c10::impl::VirtualGuardImpl cuda(at::kCUDA);
  const c10::Stream own = cuda.getStreamFromGlobalPool(kGpu, /*isHighPriority=*/false);
  order(before, own);
  cuda.exchangeStream(own);
}

OwnStream::~OwnStream() {
  try {
    const c10::impl::VirtualGuardImpl cuda(at::kCUDA);
    order(cuda.exchangeStream(before), before);
  } catch (const std::exception&) {
    // Only a device that is lost refuses it, which the next operation reports.
  }
}

Graph::Graph(const Calls& calls) : calls(calls), object(new unsigned char[kRoom]()) {
  calls.construct(object.get(), /*keep_graph=*/false);
}

Graph::~Graph() { calls.destroy(object.get()); }

void Graph::begin(const Pool& pool) { calls.begin(object.get(), {pool.first, pool.second}, kThisThread); }
void Graph::end() { calls.end(object.get()); }
void Graph::launch() const { calls.replay(object.get()); }

std::unique_ptr<OwnStream> own_stream() { return std::make_unique<OwnStream>(); }

std::unique_ptr<Pool> pool() {
  const auto [first, second] = calls().pool();
  return std::make_unique<Pool>(Pool{first, second});
}

std::unique_ptr<Graph> graph() { return std::make_unique<Graph>(calls()); }

}  // namespace heterodyne::graph
