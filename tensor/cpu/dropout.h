// Dropout masks, drawn and never stored: element i keeps its value, times 1 / (1 − p), where draw first + i of the
// stream is ≥ p.
#pragma once

#include <cmath>
#include <cstdint>

#include "tensor/cpu/philox.h"
#include "tensor/kernel_types.h"

namespace lem::cpu {

/// mask[i] = 0 or 1 / (1 − p) for elements begin … begin + n − 1 of the tensor. n ≤ kMaskChunk.
inline constexpr int64_t kMaskChunk = 1024;

inline void dropout_mask(real* mask, const Dropout& dropout, int64_t begin, int64_t n) {
  // uniform ≥ p, as integers: the uniform is 24 random bits over 2^24.
  const uint32_t threshold = uint32_t(std::ceil(double(dropout.p) * 16777216.0));
  const real keep = real(1) / (1 - dropout.p);
  const uint64_t draw = dropout.first + uint64_t(begin);
  const int64_t before = int64_t(draw % 4);  // draws of the first block that belong to elements before `begin`
  uint32_t bits[kMaskChunk + 4 + kPhiloxDraws];
  philox_draws(bits, dropout.stream, draw / 4, before + n);
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) mask[i] = (bits[before + i] >> 8) >= threshold ? keep : real(0);
}

/// apply(offset, mask, count) over [begin, begin + n) in chunks; mask is null without dropout.
template <class Apply>
void with_dropout(const Dropout& dropout, int64_t begin, int64_t n, Apply apply) {
  if (dropout.p == 0) return apply(int64_t(0), static_cast<const real*>(nullptr), n);
  real mask[kMaskChunk];
  for (int64_t at = 0; at < n; at += kMaskChunk) {
    const int64_t count = n - at < kMaskChunk ? n - at : kMaskChunk;
    dropout_mask(mask, dropout, begin + at, count);
    apply(at, static_cast<const real*>(mask), count);
  }
}

}  // namespace lem::cpu
