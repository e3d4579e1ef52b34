// Elementary functions that the compiler vectorises.
#pragma once

#include <bit>
#include <cstdint>

#include "tensor/real.h"

namespace lem::cpu {

// e^x to 2 units in the last place, branch free, so that a loop over it becomes vector code (libm's becomes calls).
//
// x = k ln 2 + f with |f| ≤ ln 2 / 2; e^x = 2^k e^f. Adding 1.5 · 2^23 rounds x / ln 2 to the integer k; adding the
// exponent's bias 127 as well leaves the exponent of 2^k in the low bits of the sum. ln 2 is split in two parts so that
// f keeps its bits; e^f is its Taylor series, whose first dropped term is below the rounding.

/// e^x for x ≤ 88; 0 below −87 (there are no normal numbers). Float: float or a vector of floats, Bits: as many
/// uint32_t.
template <class Bits, class Float>
inline Float exp_single(Float x) {
  const Float shifted = x * 1.44269504f + 12583039.0f;
  const Float k = shifted - 12583039.0f;
  const Float f = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  Float e = f * (1.0f / 5040) + 1.0f / 720;
  e = e * f + 1.0f / 120;
  e = e * f + 1.0f / 24;
  e = e * f + 1.0f / 6;
  e = e * f + 0.5f;
  e = e * f + 1.0f;
  e = e * f + 1.0f;
  const Float power = std::bit_cast<Float>(std::bit_cast<Bits>(shifted) << 23);
  return x < -87.0f ? Float{} : e * power;
}

/// e^x for x ≤ 709; 0 below −708. Float: double or a vector of doubles, Bits: as many uint64_t.
template <class Bits, class Float>
inline Float exp_double(Float x) {
  const Float shifted = x * 1.4426950408889634 + 6755399441056767.0;
  const Float k = shifted - 6755399441056767.0;
  const Float f = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
  Float e = f * (1.0 / 6227020800.0) + 1.0 / 479001600.0;
  e = e * f + 1.0 / 39916800.0;
  e = e * f + 1.0 / 3628800.0;
  e = e * f + 1.0 / 362880.0;
  e = e * f + 1.0 / 40320.0;
  e = e * f + 1.0 / 5040.0;
  e = e * f + 1.0 / 720.0;
  e = e * f + 1.0 / 120.0;
  e = e * f + 1.0 / 24.0;
  e = e * f + 1.0 / 6.0;
  e = e * f + 0.5;
  e = e * f + 1.0;
  e = e * f + 1.0;
  const Float power = std::bit_cast<Float>(std::bit_cast<Bits>(shifted) << 52);
  return x < -708.0 ? Float{} : e * power;
}

/// e^x. Below the smallest normal number: 0. Above the largest: saturates. NaN stays NaN.
inline float exp(float x) { return exp_single<uint32_t>(x > 88.0f ? 88.0f : x); }
inline double exp(double x) { return exp_double<uint64_t>(x > 709.0 ? 709.0 : x); }

/// 1 / (1 + e^−x)
inline real sigmoid(real x) { return 1 / (1 + exp(-x)); }

}  // namespace lem::cpu
