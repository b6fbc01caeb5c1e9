#include "profile/profile.h"

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include <ATen/ThreadLocalState.h>
#include <ATen/record_function.h>

#include "heterodyne-shim/src/profile/ffi.rs.h"

namespace heterodyne::profile {
namespace {

using Clock = std::chrono::steady_clock;

struct Sum {
  uint64_t calls = 0;
  std::chrono::nanoseconds own{0};
};

// The measurement. Callbacks belong to the thread that began it, and to autograd's threads while they work for it:
// there, gradients on a GPU are computed. All of them add to one map; the caller measures one thing at a time.
std::mutex lock;
std::map<std::string, Sum, std::less<>> sums;
thread_local at::CallbackHandle handle = at::INVALID_CALLBACK_HANDLE;

// A running operator, possibly inside another one.
struct Frame : at::ObserverContext {
  Clock::time_point begin = Clock::now();
  std::chrono::nanoseconds inner{0};
  Frame* outer;

  explicit Frame(Frame* outer) : outer(outer) {}
};
thread_local Frame* innermost = nullptr;

std::unique_ptr<at::ObserverContext> enter(const at::RecordFunction&) {
  auto frame = std::make_unique<Frame>(innermost);
  innermost = frame.get();
  return frame;
}

void leave(const at::RecordFunction& f, at::ObserverContext* context) {
  auto* frame = static_cast<Frame*>(context);
  if (frame == nullptr || frame != innermost) return;
  const auto whole = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - frame->begin);
  {
    const std::lock_guard<std::mutex> guard(lock);
    Sum& sum = sums[f.name()];
    ++sum.calls;
    sum.own += whole - frame->inner;
  }
  innermost = frame->outer;
  if (innermost) innermost->inner += whole;
}

}  // namespace

void start() {
  stop();
  {
    const std::lock_guard<std::mutex> guard(lock);
    sums.clear();
  }
  innermost = nullptr;
  handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(enter, leave)
          .scopes({at::RecordScope::FUNCTION, at::RecordScope::BACKWARD_FUNCTION, at::RecordScope::USER_SCOPE}));
}

void stop() {
  if (handle == at::INVALID_CALLBACK_HANDLE) return;
  at::removeCallback(handle);
  handle = at::INVALID_CALLBACK_HANDLE;
}

rust::Vec<Operator> operators() {
  const std::lock_guard<std::mutex> guard(lock);
  rust::Vec<Operator> out;
  for (const auto& [name, sum] : sums) out.push_back({name, sum.calls, static_cast<uint64_t>(sum.own.count())});
  return out;
}

void elsewhere(rust::Fn<void()> work) {
  const at::ThreadLocalState state;
  std::thread([&] {
    const at::ThreadLocalStateGuard guard(state);
    work();
  }).join();
}

}  // namespace heterodyne::profile
