// The table of the CPU's kernels, and its memory.
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"

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
/// In pieces, so that few long rows are shared out as well as many short ones.
void copy(void* dst, size_t dst_pitch, const void* src, size_t src_pitch, size_t bytes, size_t rows) {
  constexpr size_t kPiece = size_t(256) << 10;
  const size_t pieces = (bytes + kPiece - 1) / kPiece;
  constexpr size_t kBytesPerOperation = 32;  // a MiB is worth sharing out
  parallel_for(
      int64_t(rows * pieces), int64_t(std::min(bytes, kPiece) / kBytesPerOperation), [=](int64_t from, int64_t to) {
        for (size_t i = size_t(from); i < size_t(to); ++i) {
          const size_t row = i / pieces, begin = i % pieces * kPiece;
          std::memcpy(static_cast<char*>(dst) + row * dst_pitch + begin,
                      static_cast<const char*>(src) + row * src_pitch + begin, std::min(kPiece, bytes - begin));
        }
      });
}
void synchronize() {}
DeviceMemory memory() { return {}; }
void allow_tf32(bool) {}

std::chrono::steady_clock::time_point started;
void start_clock() { started = std::chrono::steady_clock::now(); }
double stop_clock() { return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count(); }

}  // namespace

const Backend& backend() {
  static const Backend table = {"cpu",
                                allocate,
                                std::free,
                                transfer,
                                transfer,
                                copy,
                                synchronize,
                                start_clock,
                                stop_clock,
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
