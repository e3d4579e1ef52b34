// Barriers, warp operations and fences, with NVIDIA's names and signatures. Each takes the place it stands at as a
// last, invisible argument.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/simt/block.h"
#include "cuda/simt/site.h"

namespace simt {

/// The running block, or an lem::Error if this is not a kernel.
Block& block_of(const char* function, Site site);
void fence(Site site);
void sleep(Site site);
unsigned active_mask(Site site);

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T> && sizeof(T) <= 8, "warp operations move numbers of at most 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T shuffle(Wait kind, unsigned mask, T value, int argument, int width, Site site) {
  const uint64_t bits = block_of(name(kind), site).collective(kind, mask, to_bits(value), argument, width, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint64_t vote(Wait kind, unsigned mask, uint64_t value, Site site) {
  return block_of(name(kind), site).collective(kind, mask, value, 0, 32, site);
}

}  // namespace simt

// --- the block
// --------------------------------------------------------------------------------------------------------

inline void __syncthreads(simt::Site site = simt::Site::current()) {
  simt::block_of("__syncthreads", site).barrier(false, site);
}
inline int __syncthreads_count(int predicate, simt::Site site = simt::Site::current()) {
  return simt::block_of("__syncthreads_count", site).barrier(predicate != 0, site).count;
}
inline int __syncthreads_and(int predicate, simt::Site site = simt::Site::current()) {
  return simt::block_of("__syncthreads_and", site).barrier(predicate != 0, site).all;
}
inline int __syncthreads_or(int predicate, simt::Site site = simt::Site::current()) {
  return simt::block_of("__syncthreads_or", site).barrier(predicate != 0, site).any;
}

// --- the warp
// ---------------------------------------------------------------------------------------------------------

inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, simt::Site site = simt::Site::current()) {
  simt::vote(simt::Wait::sync_warp, mask, 0, site);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Wait::shuffle, mask, value, lane, width, site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Wait::shuffle_up, mask, value, int(delta), width, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Wait::shuffle_down, mask, value, int(delta), width, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, simt::Site site = simt::Site::current()) {
  return simt::shuffle(simt::Wait::shuffle_xor, mask, value, lanes, width, site);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return unsigned(simt::vote(simt::Wait::ballot, mask, predicate != 0, site));
}
inline int __all_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return int(simt::vote(simt::Wait::all, mask, predicate != 0, site));
}
inline int __any_sync(unsigned mask, int predicate, simt::Site site = simt::Site::current()) {
  return int(simt::vote(simt::Wait::any, mask, predicate != 0, site));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, simt::Site site = simt::Site::current()) {
  return unsigned(simt::vote(simt::Wait::match_any, mask, simt::to_bits(value), site));
}
template <class T>
unsigned __match_all_sync(unsigned mask, T value, int* all, simt::Site site = simt::Site::current()) {
  const auto match = unsigned(simt::vote(simt::Wait::match_all, mask, simt::to_bits(value), site));
  *all = match != 0;
  return match;
}
// Only the caller's own lane: whatever else a warp's hardware may report, this it may always report, so a kernel that
// is right with it is right everywhere. One that takes it for "all lanes that came here" shows its fault.
inline unsigned __activemask(simt::Site site = simt::Site::current()) { return simt::active_mask(site); }

// Compute capability 8.0 and later.
#define SIMT_REDUCE(name, type, kind)                                                    \
  inline type name(unsigned mask, type value, simt::Site site = simt::Site::current()) { \
    return type(simt::vote(simt::Wait::kind, mask, simt::to_bits(value), site));         \
  }
SIMT_REDUCE(__reduce_add_sync, unsigned, reduce_add)
SIMT_REDUCE(__reduce_min_sync, unsigned, reduce_min)
SIMT_REDUCE(__reduce_max_sync, unsigned, reduce_max)
SIMT_REDUCE(__reduce_add_sync, int, reduce_add_signed)
SIMT_REDUCE(__reduce_min_sync, int, reduce_min_signed)
SIMT_REDUCE(__reduce_max_sync, int, reduce_max_signed)
SIMT_REDUCE(__reduce_and_sync, unsigned, reduce_and)
SIMT_REDUCE(__reduce_or_sync, unsigned, reduce_or)
SIMT_REDUCE(__reduce_xor_sync, unsigned, reduce_xor)
#undef SIMT_REDUCE

// --- memory order
// -----------------------------------------------------------------------------------------------------

inline void __threadfence(simt::Site site = simt::Site::current()) { simt::fence(site); }
inline void __threadfence_block(simt::Site site = simt::Site::current()) { simt::fence(site); }
inline void __threadfence_system(simt::Site site = simt::Site::current()) { simt::fence(site); }
SIMT_INLINE void __nanosleep(unsigned, simt::Site site = simt::Site::current()) { simt::sleep(site); }
[[noreturn]] inline void __trap(simt::Site site = simt::Site::current()) { simt::block_of("__trap", site).trap(site); }
