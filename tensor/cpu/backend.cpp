// The table of the CPU's kernels, and its memory.
#include <cstdlib>
#include <cstring>

#include "tensor/backend.h"

namespace lem::cpu {
namespace {

constexpr size_t kAlign = 64;  // a cache line, and the widest vector

/// No rounding up: the address sanitizer is to see where a buffer ends.
void* allocate(size_t bytes) {
  void* p = nullptr;
  return posix_memalign(&p, kAlign, bytes ? bytes : 1) == 0 ? p : nullptr;
}
void copy(void* dst, const void* src, size_t bytes) {
  if (bytes) std::memcpy(dst, src, bytes);
}
void synchronize() {}

}  // namespace

const Backend& backend() {
  static const Backend table = {"cpu",
                                allocate,
                                std::free,
                                copy,
                                copy,
                                copy,
                                synchronize,
                                {
#define KERNEL(name, ...) &cpu::name,
#include "tensor/kernels.h"
#undef KERNEL
                                }};
  return table;
}

}  // namespace lem::cpu
