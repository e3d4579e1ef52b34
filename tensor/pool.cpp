#include "tensor/pool.h"

#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tensor/error.h"

namespace lem {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCaching = false;
#else
constexpr bool kCaching = true;
#endif

/// Sizes are rounded so that nearly equal ones share a bucket: powers of two below 16 KiB, pages above.
size_t bucket_size(size_t bytes) {
  if (!kCaching) return bytes;
  if (bytes <= 64) return 64;
  return bytes < 16384 ? std::bit_ceil(bytes) : (bytes + 4095) / 4096 * 4096;
}

struct Pool {
  std::mutex mutex;
  std::unordered_map<size_t, std::vector<void*>> buckets;
  PoolCounters counters;
};

Pool& pool(Device device) {
  // Never destroyed: tensors with static lifetime may be released after it would be.
  static Pool* pools = new Pool[3];
  return pools[int(device)];
}

void trim(Pool& p, Device device) {
  for (auto& [size, buffers] : p.buckets)
    for (void* buffer : buffers) backend(device).release(buffer);
  p.buckets.clear();
  p.counters.cached = 0;
}

[[noreturn]] void fail_exhausted(Device device, size_t asked, size_t in_use, size_t given_back) {
  const auto mib = [](size_t bytes) { return fmt::format("{:.1f} MiB", double(bytes) / (1 << 20)); };
  const DeviceMemory memory = backend(device).memory();
  fail(
      "[memory] {} has no memory left: asked for {}, {} in use, {} were cached and are given back{}; use a smaller "
      "batch or segment",
      name(device), mib(asked), mib(in_use), mib(given_back),
      memory.total ? fmt::format(", {} of {} free", mib(memory.free), mib(memory.total)) : "");
}

}  // namespace

void* pool_allocate(Device device, size_t bytes) {
  const size_t size = bucket_size(bytes);
  Pool& p = pool(device);
  std::lock_guard lock(p.mutex);
  void* buffer = nullptr;
  if (auto found = p.buckets.find(size); found != p.buckets.end() && !found->second.empty()) {
    buffer = found->second.back();
    found->second.pop_back();
    p.counters.cached -= size;
  } else {
    buffer = backend(device).allocate(size);
    if (buffer == nullptr) {
      const size_t cached = p.counters.cached;
      trim(p, device);
      buffer = backend(device).allocate(size);
      if (buffer == nullptr) fail_exhausted(device, size, p.counters.in_use, cached);
    }
  }
  p.counters.in_use += size;
  if (p.counters.in_use > p.counters.peak) p.counters.peak = p.counters.in_use;
#ifdef LEM_DEBUG
  backend(device).kernels.fill(static_cast<real*>(buffer), std::numeric_limits<real>::quiet_NaN(),
                               bytes / sizeof(real));
#endif
  return buffer;
}

void pool_release(Device device, void* buffer, size_t bytes) {
  const size_t size = bucket_size(bytes);
  Pool& p = pool(device);
  std::lock_guard lock(p.mutex);
  p.counters.in_use -= size;
  if (!kCaching) return backend(device).release(buffer);
  p.buckets[size].push_back(buffer);
  p.counters.cached += size;
}

PoolCounters pool_counters(Device device) {
  std::lock_guard lock(pool(device).mutex);
  return pool(device).counters;
}

void reset_pool_peak(Device device) {
  std::lock_guard lock(pool(device).mutex);
  pool(device).counters.peak = pool(device).counters.in_use;
}

void pool_trim(Device device) {
  std::lock_guard lock(pool(device).mutex);
  trim(pool(device), device);
}

}  // namespace lem
