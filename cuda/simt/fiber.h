// Fibers: stacks between which one CPU thread jumps, so that a CUDA thread can stop in the middle of its kernel (at a
// barrier, a shuffle) and another one go on. A jump costs a few nanoseconds; the operating system knows nothing of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

// Which sanitizer this build has: both want to be told when the stack changes.
#if defined(__SANITIZE_ADDRESS__) || defined(SIMT_ASAN)
#define SIMT_WITH_ASAN 1
#else
#define SIMT_WITH_ASAN 0
#endif
// The interpreter itself is compiled without the thread sanitizer, so the build says SIMT_TSAN.
#if defined(__SANITIZE_THREAD__) || defined(SIMT_TSAN)
#define SIMT_WITH_TSAN 1
#else
#define SIMT_WITH_TSAN 0
#endif

namespace simt {

/// A stack with something suspended on it, or (the default) the CPU thread's own stack.
class Fiber {
 public:
  Fiber() = default;                     // the CPU thread's own stack
  Fiber(void (*body)(), size_t colour);  // a stack of its own; body() starts at the first jump and never returns
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Forgets what was suspended here: body() starts afresh at the next jump.
  void reset();
  /// Suspends the code that calls it, which runs on *this, and continues `to`.
  void jump_to(Fiber& to);
  /// As jump_to, from code whose stack is of no more interest (the emergency stack of a fault).
  [[noreturn]] static void abandon_for(Fiber& to);

  /// Soon to be jumped to: fetches the top of its stack.
  void prefetch() const {
    __builtin_prefetch(sp_);
    __builtin_prefetch(static_cast<char*>(sp_) + 64);
    __builtin_prefetch(static_cast<char*>(sp_) + 128);
  }
  bool holds(uintptr_t address) const { return address - low_ < size_; }
  /// Is it in the page below the stack, where an overflowing stack ends up?
  bool guard_holds(uintptr_t address) const { return low_ != 0 && address < low_ && low_ - address <= kGuard; }
  void* sanitizer_handle() const { return tsan_; }
  /// Learns the bounds and the sanitizer's handle of the CPU thread's own stack.
  void adopt_current_stack();

  static constexpr size_t kGuard = 4096;
  static constexpr size_t kStack = (SIMT_WITH_ASAN || SIMT_WITH_TSAN ? 256 : 128) * 1024;

 private:
  friend void fiber_entry();
  static void announce(Fiber& to, void** fake_stack);
  void* sp_ = nullptr;
  uintptr_t low_ = 0;  // the stack's lowest byte
  size_t size_ = 0;
  size_t colour_ = 0;
  void (*body_)() = nullptr;
  void* tsan_ = nullptr;
};

/// Tells the address sanitizer that nothing on [low, low + size) is alive; nothing without one.
void unpoison(uintptr_t low, size_t size);

}  // namespace simt
