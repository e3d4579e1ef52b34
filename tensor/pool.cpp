#include "tensor/pool.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <list>
#include <mutex>
#include <new>
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

/// Sizes are rounded so that nearly equal ones share a bucket: powers of two below 16 KiB, pages up to 1 MiB, and above
/// an eighth of the power of two below: at most an eighth is wasted, and a size that grows step by step meets few
/// buckets.
size_t bucket_size(size_t bytes) {
  if (!kCaching) return bytes;
  if (bytes <= 64) return 64;
  if (bytes < 16384) return std::bit_ceil(bytes);
  const size_t step = bytes <= (1 << 20) ? 4096 : std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

constexpr size_t kSlack = 16 << 20;  // bytes that may be cached however little is in use

struct Pool {
  struct Buffer {
    size_t size;
    void* data;
  };
  std::mutex mutex;
  std::list<Buffer> waiting;  // the longest first
  std::unordered_map<size_t, std::vector<std::list<Buffer>::iterator>> buckets;
  PoolCounters counters;
  size_t most = 0;  // bytes ever in use at once, since the last trim
};

Pool& pool(Device device) {
  // Never destroyed: tensors with static lifetime may be released after it would be.
  static Pool* pools = new Pool[3];
  return pools[int(device)];
}

/// Takes a waiting buffer out of the pool's books.
void* take(Pool& p, std::list<Pool::Buffer>::iterator buffer) {
  auto& bucket = p.buckets.at(buffer->size);
  std::erase(bucket, buffer);
  if (bucket.empty()) p.buckets.erase(buffer->size);
  p.counters.cached -= buffer->size;
  void* data = buffer->data;
  p.waiting.erase(buffer);
  return data;
}

/// Gives waiting buffers back to the system, the longest waiting first, until no more than `cached` bytes wait. Each is
/// out of the books before it goes: should the system throw, nothing goes twice.
void shrink(Pool& p, Device device, size_t cached) {
  while (p.counters.cached > cached) backend(device).release(take(p, p.waiting.begin()));
}

/// Gives back what is cached beyond the bound.
void keep_bound(Pool& p, Device device) {
  const size_t bound = p.most + p.most / 2 + kSlack;
  shrink(p, device, bound > p.counters.in_use ? bound - p.counters.in_use : 0);
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
  if (auto found = p.buckets.find(size); found != p.buckets.end()) {
    buffer = take(p, found->second.back());  // the last to come back: it may still be in the processor's cache
  } else {
    buffer = backend(device).allocate(size);
    if (buffer == nullptr) {
      const size_t cached = p.counters.cached;
      shrink(p, device, 0);
      buffer = backend(device).allocate(size);
      if (buffer == nullptr) fail_exhausted(device, size, p.counters.in_use, cached);
    }
  }
  p.counters.in_use += size;
  p.counters.peak = std::max(p.counters.peak, p.counters.in_use);
  p.most = std::max(p.most, p.counters.in_use);
  keep_bound(p, device);
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
  try {
    auto& bucket = p.buckets[size];
    p.waiting.push_back({size, buffer});
    try {
      bucket.push_back(std::prev(p.waiting.end()));
    } catch (...) {
      p.waiting.pop_back();
      throw;
    }
  } catch (const std::bad_alloc&) {  // no memory for the books: then it does not wait
    return backend(device).release(buffer);
  }
  p.counters.cached += size;
  keep_bound(p, device);
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
  Pool& p = pool(device);
  std::lock_guard lock(p.mutex);
  shrink(p, device, 0);
  p.most = p.counters.in_use;
}

}  // namespace lem
