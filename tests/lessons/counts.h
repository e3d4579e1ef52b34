// What kernels ask of the device's memory, counted while the interpreter runs them. Kernels to be counted are compiled
// so that every load and store is a call (the Makefile's rule for counted objects).
#pragma once

#include <vector_types.h>

#include <cstdint>
#include <vector>

namespace lem::test {

struct Shape {
  dim3 grid, block;
};

struct Counts {
  uint64_t read = 0, written = 0;              // bytes that threads ask for
  uint64_t moved_read = 0, moved_written = 0;  // 32 for each sector that a warp's access touches: no cache helps
  uint64_t reads = 0;                          // accesses of the thread that reads most, over all launches
  std::vector<Shape> launches;
};

/// Counts from here on.
void start_counting();
Counts stop_counting();

}  // namespace lem::test
