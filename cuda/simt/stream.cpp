#include "cuda/simt/stream.h"

#include <algorithm>
#include <cstdlib>

#include "cuda/simt/block.h"
#include "cuda/simt/launcher.h"
#include "cuda/simt/memory.h"
#include "cuda/simt/order.h"
#include "cuda/simt/tsan.h"
#include "tensor/error.h"

namespace simt {

namespace {
constexpr size_t kLongest = 1024;  // a GPU's queue is finite, too: a longer one begins to move by itself

bool launch_blocking() {
  static const char* text = std::getenv("CUDA_LAUNCH_BLOCKING");
  return text && *text && *text != '0';
}
}  // namespace

Queues& Queues::instance() {
  static Queues queues;
  return queues;
}

Queues::Queues() { create(true); }

Stream& Queues::stream(cudaStream_t handle, const char* op) {
  lem::check(!Block::current(), "[{}] called from a kernel: got a CUDA thread, expected the host", op);
  if (handle == nullptr || handle == cudaStreamLegacy) return *streams_[0];
  auto* wanted = reinterpret_cast<Stream*>(handle);
  for (const auto& s : streams_)
    if (s.get() == wanted) return *s;
  lem::fail("[{}] stream: got {}, expected one from cudaStreamCreate that is not yet destroyed", op,
            static_cast<void*>(handle));
}

cudaStream_t Queues::create(bool blocking) {
  auto stream = std::make_unique<Stream>();
  stream->blocking = blocking;
  stream->context = tsan::create_context();
  auto* handle = reinterpret_cast<cudaStream_t>(stream.get());
  streams_.push_back(std::move(stream));
  return handle;
}

void Queues::destroy(cudaStream_t handle) {
  Stream& s = stream(handle, "cudaStreamDestroy");
  lem::check(&s != streams_[0].get(), "[cudaStreamDestroy] got the default stream, expected one from cudaStreamCreate");
  wait(s);
  const auto it = std::find_if(streams_.begin(), streams_.end(), [&](const auto& p) { return p.get() == &s; });
  destroyed_.push_back(std::move(*it));
  streams_.erase(it);
}

void Queues::submit(Stream& stream, std::function<void(Stream&)> run) {
  Work work{std::move(run), {}};
  Stream& standard = *streams_[0];
  if (&stream == &standard) {
    for (const auto& s : streams_)
      if (s->blocking && s->done < s->submitted && s.get() != &stream) work.after.push_back({s.get(), s->submitted});
  } else if (stream.blocking && standard.done < standard.submitted) {
    work.after.push_back({&standard, standard.submitted});
  }
  stream.queue.push_back(std::move(work));
  ++stream.submitted;
  if (launch_blocking()) wait(stream);
  if (stream.queue.size() > kLongest) wait(stream, stream.done + kLongest / 2);
}

void Queues::submit_wait(Stream& stream, const Event& event) {
  if (!event.recorded.stream) return;  // never recorded: CUDA waits for nothing
  submit(stream, [](Stream&) {});
  stream.queue.back().after.push_back(event.recorded);
}

void Queues::run_until(Stream& stream, uint64_t position) {
  while (stream.done < position) {
    tsan::release(&stream.token);  // what the host has done so far
    for (const Position& p : stream.queue.front().after) {
      run_until(*p.stream, p.position);
      const tsan::Context as_stream(stream.context);
      tsan::acquire(&p.stream->token);
      tsan::release(&stream.token);
    }
    {
      const tsan::Context as_stream(stream.context);
      tsan::acquire(&stream.token);
    }
    Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    ++stream.done;
    work.run(stream);
  }
}

// Runs work with device memory open. An error empties all queues: whoever catches it starts again with a clean device.
void Queues::guarded(const std::function<void()>& body) {
  lem::check(!running_, "[simt] waiting for the device from inside its own work: got a nested wait, expected none");
  running_ = true;
  const Memory::Open open;
  try {
    body();
    running_ = false;
  } catch (...) {
    for (auto& s : streams_) {
      s->queue.clear();
      s->done = s->submitted;
    }
    Memory::instance().forget_uses();
    running_ = false;
    throw;
  }
}

void Queues::wait(Stream& stream, uint64_t position) {
  if (stream.done < position) guarded([&] { run_until(stream, position); });
  tsan::acquire(&stream.token);
}

// Among the streams with work left, the next to move.
Stream* Queues::pick() {
  std::vector<Stream*> waiting;
  for (const auto& s : streams_)
    if (s->done < s->submitted) waiting.push_back(s.get());
  return waiting.empty() ? nullptr : waiting[order().pick(waiting.size(), ++picks_)];
}

void Queues::wait_all() {
  if (pick())
    guarded([&] {
      while (Stream* s = pick()) run_until(*s, s->done + 1);
    });
  for (auto& s : streams_) tsan::acquire(&s->token);
}

bool Queues::poll(Position position) {
  if (!position.stream || position.stream->done >= position.position) return true;
  wait(*position.stream, position.stream->done + 1);
  return position.stream->done >= position.position;
}

// --- launches
// ---------------------------------------------------------------------------------------------------------

void submit(std::shared_ptr<Launch> launch, const void* kernel, cudaStream_t handle) {
  Queues& queues = Queues::instance();
  const std::lock_guard lock(queues.mutex);
  Stream& stream = queues.stream(handle, "launch");
  check_configuration(*launch, kernel);
  queues.submit(stream, [launch](Stream& s) {
    launch->context = s.context;
    launch->start = tsan::fresh_token();
    launch->end = &s.token;
    run(*launch);
    tsan::recycle();
  });
}

void check_kernel_pointer(const char* kernel, int argument, const void* p, Site site) {
  if (!p || Memory::instance().is_device(reinterpret_cast<uintptr_t>(p))) return;
  lem::fail(
      "[simt] host pointer in a launch of {}, at {}:{}: argument {} is {}, which is {}; a kernel can only use device "
      "memory",
      kernel, site.file_name(), site.line(), argument, p,
      Memory::instance().is_pinned(p) ? "pinned host memory" : "host memory");
}

}  // namespace simt
