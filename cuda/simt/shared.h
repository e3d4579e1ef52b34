// The shared memory of the block that a worker runs: arrays come into being when the first thread reaches their SHARED,
// are filled with NaN (all bits set), and are forgotten with the block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/simt/site.h"

namespace simt {

class SharedMemory {
 public:
  struct Array {
    uintptr_t begin;
    size_t bytes;
    const char* name;
    Site site;
  };

  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  void begin_block(size_t dynamic_bytes, Site launch);
  void* allocate(size_t bytes, size_t alignment, const char* name, Site site);
  void* dynamic() const { return reinterpret_cast<void*>(dynamic_); }
  size_t static_bytes() const { return static_bytes_; }

  bool holds(uintptr_t address) const { return address - arena_ < kArena; }
  /// The array that `address` lies in, or else the nearest; null if there is none.
  const Array* nearest(uintptr_t address) const;
  /// Only the address sanitizer's build calls these two: which bytes has some thread of the block written?
  void note_write(uintptr_t address, size_t bytes);
  bool written(uintptr_t address, size_t bytes) const;

 private:
  static constexpr size_t kArena = 512 * 1024;
  static constexpr size_t kGap = 64;  // between two arrays, so that the address sanitizer sees one end
  uintptr_t arena_ = 0, next_ = 0, dynamic_ = 0;
  size_t static_bytes_ = 0;
  std::vector<Array> arrays_;
  std::vector<uint8_t> written_;  // a byte for each of the arena
};

}  // namespace simt
