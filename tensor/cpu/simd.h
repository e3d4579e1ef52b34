// Elementary functions that the compiler vectorises.
#pragma once

#include <omp.h>

#include <bit>
#include <cstdint>

#include "tensor/real.h"

namespace lem::cpu {

/// e^x to 2 units in the last place, branch free, so that a loop over it becomes vector code (libm's becomes calls).
/// Below the smallest normal number: 0. Above the largest: saturates. NaN stays NaN.
///
/// x = k ln 2 + f with |f| ≤ ln 2 / 2; e^x = 2^k e^f. Adding 1.5 · 2^23 rounds x / ln 2 to the integer k; ln 2 is split
/// in two parts so that f keeps its bits; e^f is its Taylor series, whose first dropped term is below the rounding.
inline float exp(float x) {
  const float clamped = x > 88.0f ? 88.0f : x < -87.0f ? -87.0f : x;
  const float k = (clamped * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float f = (clamped - k * 0.693359375f) + k * 2.12194440e-4f;
  float e = 1.0f / 5040;
  e = e * f + 1.0f / 720;
  e = e * f + 1.0f / 120;
  e = e * f + 1.0f / 24;
  e = e * f + 1.0f / 6;
  e = e * f + 0.5f;
  e = e * f + 1.0f;
  e = e * f + 1.0f;
  const float power = std::bit_cast<float>((int32_t(k) + 127) << 23);
  return x < -87.0f ? 0.0f : e * power;
}

inline double exp(double x) {
  const double clamped = x > 709.0 ? 709.0 : x < -708.0 ? -708.0 : x;
  const double k = (clamped * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0;
  const double f = (clamped - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
  double e = 1.0 / 6227020800.0;
  e = e * f + 1.0 / 479001600.0;
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
  const double power = std::bit_cast<double>((int64_t(k) + 1023) << 52);
  return x < -708.0 ? 0.0 : e * power;
}

/// 1 / (1 + e^−x)
inline real sigmoid(real x) { return 1 / (1 + exp(-x)); }

/// Threads worth starting for `work` elementary operations: a parallel region costs microseconds.
inline int threads_for(int64_t work) { return work < 32768 ? 1 : omp_get_max_threads(); }

}  // namespace lem::cpu
