// The table of the CPU's kernels, and its memory.
#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "tensor/backend.h"

namespace lem::cpu {
namespace {

constexpr size_t kAlign = 64;                  // a cache line, and the widest vector
constexpr size_t kHugePage = size_t(2) << 20;  // one entry of the processor's address cache instead of 512

/// No rounding up: the address sanitizer is to see where a buffer ends.
void* allocate(size_t bytes) {
  void* p = nullptr;
  const bool huge = bytes >= 2 * kHugePage;
  if (posix_memalign(&p, huge ? kHugePage : kAlign, bytes ? bytes : 1) != 0) return nullptr;
#ifdef MADV_HUGEPAGE
  if (huge) madvise(p, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // advice: where it is not taken, nothing is lost
#endif
  return p;
}
void copy(void* dst, const void* src, size_t bytes) {
  if (bytes) std::memcpy(dst, src, bytes);
}
void synchronize() {}

std::chrono::steady_clock::time_point started;
void start_clock() { started = std::chrono::steady_clock::now(); }
double stop_clock() { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); }

}  // namespace

const Backend& backend() {
  static const Backend table = {"cpu",
                                allocate,
                                std::free,
                                copy,
                                copy,
                                copy,
                                synchronize,
                                start_clock,
                                stop_clock,
                                {
#define KERNEL(name, ...) &cpu::name,
#include "tensor/kernels.h"
#undef KERNEL
                                }};
  return table;
}

}  // namespace lem::cpu
