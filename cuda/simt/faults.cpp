#include "cuda/simt/faults.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <mutex>

#include "cuda/simt/block.h"
#include "cuda/simt/memory.h"

namespace simt {

// By addr2line, which is there wherever a compiler is. Where functions were inlined it gives several places, the
// innermost first; the one that belongs to the kernel's author is the first outside of this folder.
std::string source_of(const void* code) {
  Dl_info info;
  if (!dladdr(code, &info) || !info.dli_fname) return fmt::format("{}", code);
  char text[1024];
  std::string place;
  const auto offset = reinterpret_cast<uintptr_t>(code) - reinterpret_cast<uintptr_t>(info.dli_fbase);
  const std::string command = fmt::format("addr2line -i -e '{}' {:#x} 2>/dev/null", info.dli_fname, offset);
  if (FILE* pipe = popen(command.c_str(), "r")) {
    while (std::fgets(text, sizeof text, pipe)) {
      text[std::strcspn(text, "\n ")] = 0;  // " (discriminator 2)" follows now and then
      if (!std::strchr(text, '?') && (place.empty() || place.find("cuda/simt/") != std::string::npos)) place = text;
    }
    pclose(pipe);
  }
  if (place.empty()) return fmt::format("{}", code);
  const std::string here = getcwd(text, sizeof text) ? std::string(text) + "/" : "";
  return place.rfind(here, 0) == 0 ? place.substr(here.size()) : place;
}

namespace {

struct Fault {
  int signal;
  uintptr_t address;
  const void* code;
};
thread_local constinit Fault fault = {};
thread_local char emergency_stack[64 * 1024] __attribute__((aligned(64)));
struct sigaction previous[65];

// Runs out of the signal handler: here memory may be allocated and text composed.
[[noreturn]] void fail_for_fault() {
  Block& block = *Block::current();
  block.inside([&] {
    const Memory& memory = Memory::instance();
    const std::string where = source_of(fault.code);
    if (fault.signal == SIGFPE)
      block.fail("integer division by zero", where, "a GPU would go on with a meaningless number");
    if (block.fiber()->guard_holds(fault.address))
      block.fail(
          "stack overflow", where,
          fmt::format("the thread's stack of {} bytes is full; are its local arrays that large?", Fiber::kStack));
    if (memory.is_device(fault.address))
      block.fail("out of bounds on global memory", where,
                 fmt::format("access to {:#x}, {}", fault.address, memory.describe(fault.address)));
    block.fail("bad address", where,
               fmt::format("access to {:#x}, which is neither device memory nor the thread's own{}", fault.address,
                           fault.address < 4096 ? " (a null pointer)" : ""));
  });
  __builtin_unreachable();
}

void print(const std::string& text) {
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text.data(), text.size());
}

void tell_host_fault(uintptr_t address, const void* code) {
  Memory& memory = Memory::instance();
  if (memory.is_device(address)) {
    print(fmt::format(
        "[simt] device pointer dereferenced on the host, at {}: access to {:#x}, {}; copy it with cudaMemcpy, and "
        "wait for the work that makes it\n",
        source_of(code), address, memory.describe(address)));
  } else if (const Allocation* a = memory.find_pinned(address); a && (a->writers || a->readers)) {
    print(
        fmt::format("[simt] missing synchronisation, at {}: the host {} pinned memory that the copy queued at {}:{} "
                    "still has to {}; "
                    "call cudaStreamSynchronize first\n",
                    source_of(code), a->writers ? "uses" : "changes", a->user.file_name(), a->user.line(),
                    a->writers ? "write" : "read"));
  }
}

void handle(int signal, siginfo_t* info, void* raw) {
  auto* context = static_cast<ucontext_t*>(raw);
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
#if defined(__x86_64__)
  auto* registers = context->uc_mcontext.gregs;
  const auto* code = reinterpret_cast<const void*>(registers[REG_RIP]);
  if (Block::current() && Block::current()->in_kernel()) {
    // Return from the handler not to the kernel but into fail_for_fault, as if the kernel had called it; on the
    // emergency stack if its own is full.
    fault = {signal, address, code};
    registers[REG_RIP] = reinterpret_cast<greg_t>(&fail_for_fault);
    const bool full = Block::current()->fiber()->guard_holds(address);
    const uintptr_t top =
        full ? reinterpret_cast<uintptr_t>(emergency_stack + sizeof emergency_stack) : uintptr_t(registers[REG_RSP]);
    registers[REG_RSP] = greg_t(((top - 256) & ~uintptr_t{63}) - 8);
    return;
  }
#else
  (void)context;
  const void* code = nullptr;
#endif
  tell_host_fault(address, code);
  // Back to whoever handled this before us (a sanitizer, or the system, which ends the program where it failed).
  sigaction(signal, &previous[signal], nullptr);
}

}  // namespace

void install_fault_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (const int signal : {SIGSEGV, SIGBUS, SIGFPE}) sigaction(signal, &action, &previous[signal]);
  });
  // The handler needs a stack of its own: the fault may be that the stack is full. A sanitizer has brought one already.
  stack_t stack = {};
  if (sigaltstack(nullptr, &stack) == 0 && !(stack.ss_flags & SS_DISABLE)) return;
  static thread_local char handler_stack[64 * 1024];
  stack = {};
  stack.ss_sp = handler_stack;
  stack.ss_size = sizeof handler_stack;
  sigaltstack(&stack, nullptr);
}

}  // namespace simt
