// One block at a time, on one CPU thread: its CUDA threads are fibers that take turns.
//
// A thread runs until it must wait: at a barrier, at a warp operation. Threads that have not begun are started one
// after the other on the same stack, and only a thread that waits keeps its stack; so a kernel without barriers costs
// one call a thread. When nobody can run and somebody still waits, that is a deadlock, and it is reported with who
// waits where.
#pragma once

#include <vector_types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "cuda/simt/fiber.h"
#include "cuda/simt/launch.h"
#include "cuda/simt/order.h"
#include "cuda/simt/shared.h"
#include "cuda/simt/site.h"

namespace simt {

/// What the running CUDA thread knows of itself: threadIdx and its like read it.
struct Here {
  uint3 thread, block;
  dim3 block_dim, grid_dim;
  uint64_t epoch;    // one for each block that this CPU thread ever ran
  uint32_t atomics;  // since the thread last gave way: one that spins on an atomic has to let others run
};
extern thread_local constinit Here here __attribute__((tls_model("initial-exec")));

enum class Wait : uint8_t {
  nothing,
  barrier,
  sync_warp,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  all,
  any,
  match_any,
  match_all,
  reduce_add,
  reduce_min,
  reduce_max,
  reduce_add_signed,
  reduce_min_signed,
  reduce_max_signed,
  reduce_and,
  reduce_or,
  reduce_xor,
};
const char* name(Wait wait);

struct Thread {
  Fiber* fiber = nullptr;
  void* token = nullptr;  // for the thread sanitizer
  Site site;              // where it waits
  uint64_t value = 0;     // what it gives to the warp, then what it gets
  uint32_t mask = 0;
  int argument = 0, width = 32;  // of shuffles
  Wait wait = Wait::nothing;
  bool fenced = false;          // has run a __threadfence
  void* last_atomic = nullptr;  // the address of its last atomic operation
};

struct Warp {
  uint32_t existing = 0, exited = 0, waiting = 0;  // one bit a lane
};

/// A queue that never allocates: it is used on the fibers' stacks, where the thread sanitizer watches every malloc.
template <class T>
class Ring {
 public:
  bool empty() const { return head_ == tail_; }
  void clear() { head_ = tail_ = 0; }
  void push(T x) { items_[tail_++ % kSize] = x; }
  T front() const { return items_[head_ % kSize]; }
  T pop_front() { return items_[head_++ % kSize]; }
  T pop_back() { return items_[--tail_ % kSize]; }

 private:
  static constexpr unsigned kSize = 4096;  // more than a block's threads and fibers
  std::vector<T> items_ = std::vector<T>(kSize);
  unsigned head_ = 0, tail_ = 0;
};

class Block {
 public:
  Block();
  /// The block that this CPU thread is running, or null: host code.
  static Block* current() { return current_; }
  void run(Launch& launch, uint64_t index);

  /// Runs the interpreter's own code on behalf of a kernel: there the checks on kernels do not hold, and fail() ends
  /// it. The kernel's frames below stay as they are, not unwound: device code has no destructors worth running.
  template <class Body>
  auto inside(Body body) -> decltype(body()) {
    in_kernel_ = false;
    try {
      const auto leave = [this](auto... result) {
        in_kernel_ = true;
        return (result, ...);
      };
      if constexpr (std::is_void_v<decltype(body())>)
        return body(), void(leave(0));
      else
        return leave(body());
    } catch (const Failure&) {
    }
    Fiber::abandon_for(scheduler_);
  }
  /// Ends the launch with an error that names kernel, block, thread and place. Only inside().
  [[noreturn]] void fail(const std::string& what, const std::string& where, const std::string& explanation);
  [[noreturn]] void fail(const std::string& what, Site site, const std::string& explanation);

  // --- called by the running CUDA thread
  struct Votes {
    int count, all, any;
  };
  Votes barrier(bool predicate, Site site);
  uint64_t collective(Wait kind, unsigned mask, uint64_t value, int argument, int width, Site site);
  void fence();
  void atomic_done(void* address);
  void give_way(const void* caller);  // to all other threads of the block
  [[noreturn]] void trap(Site site);
  void* shared_array(size_t bytes, size_t alignment, const char* name, Site site);
  SharedMemory& shared() { return shared_; }
  const Launch& launch() const { return *launch_; }
  const Fiber* fiber() const { return running_; }
  bool in_kernel() const { return in_kernel_; }
  unsigned lane() const { return current_thread_ % 32; }
  std::string thread_name(unsigned linear) const;

 private:
  struct Failure {};
  Votes wait_at_barrier(bool predicate, Site site);
  uint64_t wait_for_lanes(Wait kind, unsigned mask, uint64_t value, int argument, int width, Site site);
  static void fiber_body();
  void run_threads();
  void start(unsigned linear);
  void finish(unsigned linear);
  void leave();         // the current thread waits: run others until somebody wakes it
  Fiber& next_fiber();  // who runs when the current fiber cannot
  Fiber& idle_fiber();
  void release_barrier();
  void begin(Launch& launch, uint64_t index);
  [[noreturn]] void fail_deadlock();
  std::string where_threads_wait() const;

  // warp.cpp
  bool warp_complete(const Warp& warp, uint32_t mask) const;
  void complete_collective(unsigned warp, uint32_t mask);
  void check_agreement(unsigned linear);
  void shuffle(unsigned linear, uint32_t participants);

  static thread_local constinit Block* current_;
  Launch* launch_ = nullptr;
  unsigned threads_ = 0;
  bool in_kernel_ = false;
  unsigned current_thread_ = 0;  // linear: x + dim.x (y + dim.y z)
  unsigned started_ = 0, done_ = 0;
  int chosen_thread_ = -1;  // the one that SIMT_BREAK stops at

  // the barrier
  unsigned arrived_ = 0;
  unsigned first_arrived_ = 0, first_exited_ = 0;
  int votes_ = 0, last_votes_ = 0;
  uint64_t reshuffles_ = 0;
  void* barrier_token_ = nullptr;  // for the thread sanitizer
  uint64_t spins_ = 0;             // turns given away since anything else happened
  std::chrono::steady_clock::time_point spinning_since_;

  std::vector<Thread> thread_;
  std::vector<Warp> warp_;
  std::vector<uint3> index_;  // of each thread
  dim3 index_dim_{0, 0, 0};   // what index_ and order_ were made for
  Order::Kind order_kind_ = Order::Kind::random;
  std::vector<uint16_t> order_;
  Ring<unsigned> ready_;  // threads that can go on

  Fiber scheduler_;  // the CPU thread's own stack
  Fiber* running_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  Ring<Fiber*> idle_;
  SharedMemory shared_;
};

/// gdb's place to stop: called just before the thread that SIMT_BREAK=kernel:bx,by,bz:tx,ty,tz names starts its kernel.
extern "C" void simt_chosen_thread();
int chosen_thread(const Launch& launch, uint3 block);

}  // namespace simt
