#include "cuda/simt/fiber.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>

#include "tensor/error.h"

#if SIMT_WITH_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if SIMT_WITH_TSAN
#include <sanitizer/tsan_interface.h>
#endif

// --- the jump
// --------------------------------------------------------------------------------------------------------- A function
// call already saves what the caller may lose; what is left are six registers and the stack pointer. They are pushed on
// the old stack, popped from the new one, and `ret` goes on where that one stopped.
#if defined(__x86_64__)
asm(R"(
.text
.globl simt_jump
.type simt_jump, @function
simt_jump:                      # void simt_jump(void** save_sp, void* to_sp)
  .cfi_startproc
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
.size simt_jump, .-simt_jump
)");
extern "C" void simt_jump(void** save_sp, void* to_sp);
#else
// Any other processor: the C library's way, ten times slower because it also saves the signal mask.
#include <ucontext.h>
#endif

namespace simt {

void fiber_entry();

namespace {

thread_local Fiber* arriving = nullptr;  // the fiber a jump goes to

#if defined(__x86_64__)
void* prepare(uintptr_t low, size_t size, size_t colour) {
  // The frame that simt_jump pops: six registers of no importance, then the address it returns to. A zero above it ends
  // every backtrace. The ABI wants rsp + 8 to be a multiple of 16 at a function's first instruction.
  auto** top = reinterpret_cast<void**>((low + size - colour) & ~uintptr_t{63});
  *--top = nullptr;
  *--top = nullptr;
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&fiber_entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  return top;
}
#else
void* prepare(uintptr_t low, size_t size, size_t colour) {
  auto* context = new ucontext_t;
  getcontext(context);
  context->uc_stack.ss_sp = reinterpret_cast<void*>(low);
  context->uc_stack.ss_size = size - colour;
  context->uc_link = nullptr;
  makecontext(context, fiber_entry, 0);
  return context;
}

void simt_jump(void** save_sp, void* to_sp) {
  if (!*save_sp) *save_sp = new ucontext_t;
  swapcontext(static_cast<ucontext_t*>(*save_sp), static_cast<ucontext_t*>(to_sp));
}
#endif

}  // namespace

void unpoison([[maybe_unused]] uintptr_t low, [[maybe_unused]] size_t size) {
#if SIMT_WITH_ASAN
  __asan_unpoison_memory_region(reinterpret_cast<void*>(low), size);
#endif
}

Fiber::Fiber(void (*body)(), size_t colour) : size_(kStack), colour_(colour % 4096), body_(body) {
  void* p = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  lem::check(p != MAP_FAILED, "[simt] no memory for the stacks of a block's threads: got none, expected {} bytes each",
             kStack);
  mprotect(p, kGuard, PROT_NONE);
  low_ = reinterpret_cast<uintptr_t>(p) + kGuard;
#if SIMT_WITH_TSAN
  tsan_ = __tsan_create_fiber(0);
#endif
  reset();
}

Fiber::~Fiber() {
#if SIMT_WITH_TSAN
  if (body_ && tsan_) __tsan_destroy_fiber(tsan_);
#endif
  if (body_) munmap(reinterpret_cast<void*>(low_ - kGuard), kGuard + kStack);
}

void Fiber::reset() {
  unpoison(low_, size_);
  sp_ = prepare(low_, size_, colour_);
}

void Fiber::adopt_current_stack() {
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* low = nullptr;
    pthread_attr_getstack(&attributes, &low, &size_);
    low_ = reinterpret_cast<uintptr_t>(low);
    pthread_attr_destroy(&attributes);
  }
#if SIMT_WITH_TSAN
  tsan_ = __tsan_get_current_fiber();
#endif
}

// The sanitizers are told just before the stack changes.
void Fiber::announce(Fiber& to, [[maybe_unused]] void** fake_stack) {
  arriving = &to;
#if SIMT_WITH_TSAN
  // 1: a jump orders nothing. What orders threads is said at barriers, see tsan.h.
  __tsan_switch_to_fiber(to.tsan_, 1);
#endif
#if SIMT_WITH_ASAN
  __sanitizer_start_switch_fiber(fake_stack, reinterpret_cast<void*>(to.low_), to.size_);
#endif
}

void Fiber::jump_to(Fiber& to) {
  void* fake_stack = nullptr;
  announce(to, &fake_stack);
  simt_jump(&sp_, to.sp_);
#if SIMT_WITH_ASAN
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::abandon_for(Fiber& to) {
  static thread_local void* nobody = nullptr;
  announce(to, nullptr);
  simt_jump(&nobody, to.sp_);
  std::abort();
}

void fiber_entry() {
#if SIMT_WITH_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  arriving->body_();
  std::abort();  // body() never returns
}

}  // namespace simt
