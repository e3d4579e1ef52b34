// A kernel launch: what to run, in which shape, and what went wrong.
#pragma once

#include <vector_types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "cuda/simt/site.h"

namespace simt {

struct Launch {
  const char* kernel = "";
  Site site;  // of the LAUNCH
  dim3 grid, block;
  size_t shared_bytes = 0;  // dynamic shared memory
  void (*invoke)(const void* arguments) = nullptr;
  std::shared_ptr<const void> arguments;  // copied at the launch, as CUDA does
  // For the thread sanitizer: the stream, which orders this launch after its past, the start and the end of the blocks.
  void *context = nullptr, *start = nullptr, *end = nullptr;
  uint64_t number = 0;  // launches are counted: random order differs between them

  std::atomic<bool> failed{false};
  std::mutex mutex;
  std::string error;  // the first one

  uint64_t blocks() const { return uint64_t(grid.x) * grid.y * grid.z; }
  unsigned threads() const { return block.x * block.y * block.z; }
};

/// What the chosen GPU allows. SIMT_ARCH=75 (the default, the smallest) … 120 picks one.
struct Architecture {
  int version;            // 75: compute capability 7.5
  size_t shared_default;  // bytes of shared memory any kernel may have
  size_t shared_opt_in;   // … after cudaFuncSetAttribute(…, cudaFuncAttributeMaxDynamicSharedMemorySize, …)
};
const Architecture& architecture();
/// 0: what SIMT_ARCH says.
void set_architecture(int version);

/// An lem::Error if no GPU of the chosen architecture could run it.
void check_configuration(const Launch& launch, const void* kernel);
/// A kernel's opt-in to more than the default of dynamic shared memory; shared_limit: what it may have.
void allow_shared(const void* kernel, size_t bytes);

/// Runs all blocks, on all cores; an lem::Error for the first thing that a thread did wrong.
void run(Launch& launch);

/// Threads of the CPU that run blocks: SIMT_WORKERS, or all cores (one, with the thread sanitizer: it needs no real
/// concurrency).
int workers();

}  // namespace simt
