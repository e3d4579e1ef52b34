// Streams and events. Work is queued and runs when somebody waits for it, in the order that CUDA promises and no other:
// within a stream one after the other, between streams only as events and the default stream demand. So what a missing
// synchronisation leaves to chance on a GPU is here always too late.
#pragma once

#include <driver_types.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/simt/site.h"

namespace simt {

struct Stream;

/// Everything in `stream` up to its `position`-th piece of work.
struct Position {
  Stream* stream = nullptr;
  uint64_t position = 0;
};

struct Work {
  std::function<void(Stream&)> run;
  std::vector<Position> after;
};

struct Stream {
  std::deque<Work> queue;
  uint64_t submitted = 0, done = 0;
  bool blocking = true;     // waits for the default stream, and it for this one
  void* context = nullptr;  // for the thread sanitizer: a point of view, and what it has seen
  char token = 0;
};

struct Event {
  Position recorded;
  std::shared_ptr<double> milliseconds = std::make_shared<double>(0);
};

class Queues {
 public:
  static Queues& instance();

  Stream& stream(cudaStream_t handle, const char* op);  // an lem::Error for a handle that is none
  cudaStream_t create(bool blocking);
  void destroy(cudaStream_t handle);

  void submit(Stream& stream, std::function<void(Stream&)> run);
  void submit_wait(Stream& stream, const Event& event);
  void wait(Stream& stream, uint64_t position);
  void wait(Stream& stream) { wait(stream, stream.submitted); }
  void wait_all();
  /// One step of any kind, so that a host that polls gets on. Is the position reached?
  bool poll(Position position);

  std::recursive_mutex mutex;

 private:
  Queues();
  void run_until(Stream& stream, uint64_t position);
  void guarded(const std::function<void()>& body);
  Stream* pick();

  std::vector<std::unique_ptr<Stream>> streams_;    // the first is the default stream
  std::vector<std::unique_ptr<Stream>> destroyed_;  // events may still speak of them
  uint64_t picks_ = 0;
  bool running_ = false;
};

}  // namespace simt
