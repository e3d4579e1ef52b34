// What the thread sanitizer is told. It believes that two accesses are ordered only when it has seen a release followed
// by an acquire of the same token, so each __syncthreads, __syncwarp, launch, event … is such a pair, and nothing else
// is: not the jump from fiber to fiber, not a shuffle. Without the sanitizer all of this is nothing.
#pragma once

#include <memory>
#include <string>

#include "cuda/simt/fiber.h"

namespace simt::tsan {

#if SIMT_WITH_TSAN
void acquire(void* token);
void release(void* token);
/// A token nobody has released yet. recycle() takes all of them back; only when no block runs.
void* fresh_token();
void recycle();
/// A sanitizer's thread without a stack: the point of view of a stream.
void* create_context();
void name_fiber(const Fiber& fiber, const std::string& name);
/// While it lives, what the interpreter does counts as done by `context`.
class Context {
 public:
  explicit Context(void* context);
  ~Context();

 private:
  void* before_;
};
/// While it lives, what a kernel's thread does counts as done by the scheduler, in order with both: to hand over an
/// error's text.
class Neutral {
 public:
  explicit Neutral(const Fiber& scheduler);
  ~Neutral();

 private:
  void* token_;
  std::unique_ptr<Context> context_;
};
/// The first race seen since the last call, in one line; empty if none.
std::string take_report();
#else
inline void acquire(void*) {}
inline void release(void*) {}
inline void* fresh_token() { return nullptr; }
inline void recycle() {}
inline void* create_context() { return nullptr; }
inline void name_fiber(const Fiber&, const std::string&) {}
struct Context {
  explicit Context(void*) {}
  ~Context() {}
};
struct Neutral {
  explicit Neutral(const Fiber&) {}
  ~Neutral() {}
};
inline std::string take_report() { return {}; }
#endif

}  // namespace simt::tsan
