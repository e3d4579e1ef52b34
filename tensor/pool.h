// The caching pool: one per device. A training step allocates and frees the same sizes again and again; a freed buffer
// waits in the bucket of its size (rounded up a little, so that nearly equal ones share) for the next one who asks.
// What waits is bounded: in use and cached together are at most half more than was ever in use at once; beyond
// that the buffers that have waited longest go back to the system. So sizes that never come again do not pile up.
// Buffers are never zero-filled. With the address sanitizer nothing is cached, so that it sees every buffer's true
// ends; in debug builds new buffers are filled with NaN.
#pragma once

#include <cstddef>

#include "tensor/backend.h"

namespace lem {

struct PoolCounters {
  size_t in_use = 0;  // bytes held by live tensors
  size_t cached = 0;  // bytes waiting in buckets
  size_t peak = 0;    // most bytes in use at once since reset_pool_peak
};

/// A buffer of at least `bytes`; on exhaustion gives the cache back, tries once more, then an Error: asked, in use,
/// given back, free.
void* pool_allocate(Device device, size_t bytes);
void pool_release(Device device, void* p, size_t bytes);
PoolCounters pool_counters(Device device);
void reset_pool_peak(Device device);
/// Returns every cached buffer to the system.
void pool_trim(Device device);

}  // namespace lem
