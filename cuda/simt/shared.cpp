#include "cuda/simt/shared.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "cuda/simt/fiber.h"
#include "tensor/error.h"

#if SIMT_WITH_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

namespace {
void poison([[maybe_unused]] uintptr_t begin, [[maybe_unused]] size_t bytes) {
#if SIMT_WITH_ASAN
  __asan_poison_memory_region(reinterpret_cast<void*>(begin), bytes);
#endif
}

// Bytes 0xFF: NaN in float and double, −1 in integers.
void fill_with_nan(uintptr_t begin, size_t bytes) {
#if SIMT_WITH_TSAN
  // Byte by byte: the sanitizer would count a memset as a write by the thread that came first.
  for (size_t i = 0; i < bytes; ++i) reinterpret_cast<volatile unsigned char*>(begin)[i] = 0xFF;
#else
  std::memset(reinterpret_cast<void*>(begin), 0xFF, bytes);
#endif
}

constexpr int kMapFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
}  // namespace

SharedMemory::SharedMemory() {
  void* p = mmap(nullptr, kArena, PROT_READ | PROT_WRITE, kMapFlags, -1, 0);
  lem::check(p != MAP_FAILED, "[simt] no memory for shared memory: got none, expected {} bytes", kArena);
  arena_ = next_ = reinterpret_cast<uintptr_t>(p);
  if (SIMT_WITH_ASAN) written_.resize(kArena);
  arrays_.reserve(256);
  poison(arena_, kArena);
}

SharedMemory::~SharedMemory() {
  unpoison(arena_, kArena);
  munmap(reinterpret_cast<void*>(arena_), kArena);
}

void SharedMemory::begin_block(size_t dynamic_bytes, Site launch) {
  const size_t used = next_ - arena_;
  poison(arena_, used);
  if (SIMT_WITH_ASAN) std::fill_n(written_.begin(), used, uint8_t{0});
  // Fresh pages: otherwise the thread sanitizer would take the same bytes of two blocks for memory they share.
  if (SIMT_WITH_TSAN) {
    mmap(reinterpret_cast<void*>(arena_), kArena, PROT_READ | PROT_WRITE, kMapFlags | MAP_FIXED, -1, 0);
  }
  arrays_.clear();
  next_ = arena_;
  static_bytes_ = 0;
  dynamic_ = reinterpret_cast<uintptr_t>(allocate(dynamic_bytes, 16, "dynamic shared memory", launch));
  static_bytes_ = 0;
}

void* SharedMemory::allocate(size_t bytes, size_t alignment, const char* name, Site site) {
  alignment = std::max<size_t>(alignment, 16);
  const uintptr_t begin = (next_ + kGap + alignment - 1) & ~uintptr_t(alignment - 1);
  if (begin + bytes + kGap > arena_ + kArena) return nullptr;
  next_ = begin + bytes;
  static_bytes_ += bytes;
  if (bytes == 0) return reinterpret_cast<void*>(begin);
  arrays_.push_back({begin, bytes, name, site});
  unpoison(begin, bytes);
  fill_with_nan(begin, bytes);
  return reinterpret_cast<void*>(begin);
}

const SharedMemory::Array* SharedMemory::nearest(uintptr_t address) const {
  const Array* best = nullptr;
  uintptr_t distance = UINTPTR_MAX;
  for (const Array& a : arrays_) {
    const uintptr_t d = address < a.begin             ? a.begin - address
                        : address < a.begin + a.bytes ? 0
                                                      : address - a.begin - a.bytes + 1;
    if (d < distance) best = &a, distance = d;
  }
  return best;
}

void SharedMemory::note_write(uintptr_t address, size_t bytes) {
  std::fill_n(written_.begin() + std::ptrdiff_t(address - arena_), bytes, uint8_t{1});
}

bool SharedMemory::written(uintptr_t address, size_t bytes) const {
  const uint8_t* p = written_.data() + (address - arena_);
  return std::all_of(p, p + bytes, [](uint8_t w) { return w != 0; });
}

}  // namespace simt
