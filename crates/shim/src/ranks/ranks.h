// Processes that train together, on PyTorch's own engine (c10d): a TCP store to meet at, Gloo between CPUs, NCCL
// between GPUs, and the reducer of DistributedDataParallel.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "rust/cxx.h"

namespace heterodyne::ranks {

using Tensors = rust::Slice<const size_t>;

// A short message to all ranks, on its way.
class Message {
 public:
  Message(const c10::intrusive_ptr<c10d::ProcessGroup>& group, int32_t text);

  // What all ranks have sent, in their order.
  rust::Vec<int32_t> received() const;

 private:
  at::Tensor own, all;
  c10::intrusive_ptr<c10d::Work> work;
};

class Group {
 public:
  Group(c10::intrusive_ptr<c10d::Store> store, int rank, int size, std::chrono::milliseconds timeout, bool cuda);

  // In place; the host waits only for tensors on a CPU.
  void all_reduce(size_t x) const;
  void broadcast(Tensors tensors) const;
  // The rows of all ranks, and their sum element by element, both with gradients.
  size_t gather(size_t rows) const;
  size_t sum(size_t x) const;

  std::unique_ptr<Message> send(int32_t text) const;

  void put(rust::Str key, rust::Str value) const;
  bool has(rust::Str key) const;
  rust::String get(rust::Str key) const;

  const c10::intrusive_ptr<c10d::ProcessGroup>& tensors() const { return data; }

 private:
  c10::intrusive_ptr<c10d::Store> store;
  // Gradients and features; and messages between hosts, which never wait for a GPU.
  c10::intrusive_ptr<c10d::ProcessGroup> data, control;
};

// Averages gradients over all ranks while the backward pass goes on.
class Reducer {
 public:
  Reducer(const Group& group, Tensors parameters, bool half);

  // Before each backward pass from `total`.
  void prepare(size_t total) const;

 private:
  std::unique_ptr<c10d::Reducer> reducer;
};

std::unique_ptr<Group> connect(rust::Str host, uint16_t port, bool serves, rust::Str prefix, int32_t rank, int32_t size,
                               uint64_t timeout_ms, bool cuda);
std::unique_ptr<Reducer> reducer(const Group& group, Tensors parameters, bool half);

}  // namespace heterodyne::ranks
