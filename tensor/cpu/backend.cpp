// The table of the CPU's kernels, and its memory.
#include <sys/mman.h>

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
void transfer(void* dst, const void* src, size_t bytes) {
  if (bytes) std::memcpy(dst, src, bytes);
}
void copy(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes, size_t rows) {
  for (size_t row = 0; row < rows; ++row)
    transfer(static_cast<char*>(dst) + row * dst_pitch, static_cast<const char*>(src) + row * src_pitch, bytes);
}
void synchronize() {}
DeviceMemory memory() { return {}; }
void allow_tf32(bool) {}

}  // namespace

const Backend& backend() {
  static const Backend table = {"cpu",
                                allocate,
                                std::free,
                                transfer,
                                transfer,
                                copy,
                                synchronize,
                                memory,
                                allow_tf32,
                                {
#define KERNEL(name, ...) &cpu::name,
#include "tensor/kernels.h"
#undef KERNEL
                                }};
  return table;
}

}  // namespace lem::cpu
