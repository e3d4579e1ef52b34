// Atomic operations on global and shared memory, with NVIDIA's names. As on the GPU they are relaxed: alone they order
// nothing else, which the thread sanitizer takes at its word.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/simt/block.h"
#include "cuda/simt/site.h"

namespace simt {

void atomic_done(void* address);  // orders by fences, and lets others run when a thread does nothing but this
void let_others_run(const void* caller);

/// A function of its own, or the thread sanitizer would watch the interpreter's count.
SIMT_UNCHECKED __attribute__((noinline)) inline void after_atomic([[maybe_unused]] void* address) {
#if SIMT_WITH_TSAN
  atomic_done(address);
#endif
  if (++here.atomics >= 1024) [[unlikely]]
    let_others_run(__builtin_return_address(0));
}

/// old = *p; *p = change(old), at once. Returns old.
template <class T, class Change>
SIMT_INLINE T update(T* p, Change change) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  static_assert(sizeof(T) == sizeof(Bits));
  auto* bits = reinterpret_cast<Bits*>(p);
  Bits old_bits = __atomic_load_n(bits, __ATOMIC_RELAXED), new_bits;
  T old;
  do {
    std::memcpy(&old, &old_bits, sizeof old);
    const T next = change(old);
    std::memcpy(&new_bits, &next, sizeof next);
  } while (!__atomic_compare_exchange_n(bits, &old_bits, new_bits, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after_atomic(p);
  return old;
}

}  // namespace simt

#define SIMT_ATOMIC(name, type, expression)                                   \
  SIMT_INLINE type name(type* p, type value) {                                \
    return simt::update(p, [value](type old) -> type { return expression; }); \
  }
#define SIMT_ATOMIC_INTEGERS(name, expression) \
  SIMT_ATOMIC(name, int, expression)           \
  SIMT_ATOMIC(name, unsigned, expression)      \
  SIMT_ATOMIC(name, unsigned long long, expression)

SIMT_ATOMIC_INTEGERS(atomicAdd, old + value)
SIMT_ATOMIC(atomicAdd, float, old + value)
SIMT_ATOMIC(atomicAdd, double, old + value)
SIMT_ATOMIC(atomicSub, int, old - value)
SIMT_ATOMIC(atomicSub, unsigned, old - value)
SIMT_ATOMIC_INTEGERS(atomicExch, ((void)old, value))
SIMT_ATOMIC(atomicExch, float, ((void)old, value))
SIMT_ATOMIC_INTEGERS(atomicMin, old < value ? old : value)
SIMT_ATOMIC(atomicMin, long long, old < value ? old : value)
SIMT_ATOMIC_INTEGERS(atomicMax, old > value ? old : value)
SIMT_ATOMIC(atomicMax, long long, old > value ? old : value)
SIMT_ATOMIC_INTEGERS(atomicAnd, old& value)
SIMT_ATOMIC_INTEGERS(atomicOr, old | value)
SIMT_ATOMIC_INTEGERS(atomicXor, old ^ value)
SIMT_ATOMIC(atomicInc, unsigned, old >= value ? 0 : old + 1)
SIMT_ATOMIC(atomicDec, unsigned, old == 0 || old > value ? value : old - 1)

#define SIMT_ATOMIC_CAS(type)                                                                \
  SIMT_INLINE type atomicCAS(type* p, type expected, type value) {                           \
    return simt::update(p, [=](type old) -> type { return old == expected ? value : old; }); \
  }
SIMT_ATOMIC_CAS(int)
SIMT_ATOMIC_CAS(unsigned)
SIMT_ATOMIC_CAS(unsigned long long)

#undef SIMT_ATOMIC
#undef SIMT_ATOMIC_INTEGERS
#undef SIMT_ATOMIC_CAS
