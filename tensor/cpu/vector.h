// The machine's vector registers.
#pragma once

#include <cstdint>
#include <type_traits>

#include "tensor/real.h"

namespace lem::cpu {

#if defined(__AVX512F__)
inline constexpr int kVectorBytes = 64, kVectorRegisters = 32;
#elif defined(__AVX__)
inline constexpr int kVectorBytes = 32, kVectorRegisters = 16;
#else
inline constexpr int kVectorBytes = 16, kVectorRegisters = 16;
#endif
inline constexpr int kLanes = kVectorBytes / int(sizeof(real));

/// A vector register.
typedef real Vector __attribute__((vector_size(kVectorBytes)));
static_assert(alignof(Vector) == kVectorBytes);
/// As many unsigned integers of the same size.
typedef std::conditional_t<kDouble, uint64_t, uint32_t> VectorBits __attribute__((vector_size(kVectorBytes)));

/// A vector in memory, aligned no more than its numbers. Behind load and store alone: compilers have crashed on
/// functions that take or return a vector of reduced alignment (GCC 14 for arm64).
typedef Vector VectorInMemory __attribute__((aligned(alignof(real)), may_alias));
inline Vector load(const real* p) { return *reinterpret_cast<const VectorInMemory*>(p); }
inline void store(real* p, Vector x) { *reinterpret_cast<VectorInMemory*>(p) = x; }

/// n in whole vectors.
constexpr int64_t round_down(int64_t n) { return n / kLanes * kLanes; }
constexpr int64_t round_up(int64_t n) { return round_down(n + kLanes - 1); }

}  // namespace lem::cpu
