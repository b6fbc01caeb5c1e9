// CUDA graphs: the kernels of a piece of work, recorded once and launched together afterwards.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include <c10/core/Stream.h>

#include "rust/cxx.h"

namespace heterodyne::graph {

// While it lives, the calling thread works on a stream of its own: the default stream cannot be recorded.
class OwnStream {
 public:
  OwnStream();
  ~OwnStream();
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;

 private:
  c10::Stream before;
};

// Memory that graphs share. They must be launched in the order in which they were recorded.
struct Pool {
  uint64_t first, second;
};

struct Calls;

class Graph {
 public:
  explicit Graph(const Calls& calls);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void begin(const Pool& pool);
  void end();
  void launch() const;

 private:
  const Calls& calls;
  std::unique_ptr<unsigned char[]> object;
};

std::unique_ptr<OwnStream> own_stream();
std::unique_ptr<Pool> pool();
std::unique_ptr<Graph> graph();

}  // namespace heterodyne::graph
