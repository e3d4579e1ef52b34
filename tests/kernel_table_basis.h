// What the parts of the table share that run kernels on a basis.
#pragma once

#include <cmath>
#include <numbers>

#include "tests/kernel_check.h"

namespace lem::test {

/// μ in (0, 1) for the first half, σ² in (0.001, 0.05) for the second.
inline Draw location_and_variance(int64_t n) {
  return [n](const Stream& s, uint64_t i) { return int64_t(i) < n ? s.uniform(i) : 0.001 + 0.049 * s.uniform(i); };
}

/// A basis on the call's device, whose a[j] and b[j] the host may read as well.
struct CallBasis {
  BasisKind kind;
  Reals a, b;
  operator BasisView() const { return {kind, a.size(), a, b}; }
  BasisView on_host() const { return {kind, a.size(), a.before->data(), b.before->data()}; }
};

/// N functions; waves, powers and rectangles as models have them.
inline CallBasis make_basis(KernelCall& c, BasisKind kind, int64_t N) {
  const auto a = [=](const Stream&, uint64_t j) {
    switch (kind) {
      case BasisKind::gaussian:
        return (double(j) + 0.5) / double(N);
      case BasisKind::power:
        return double(j);
      case BasisKind::sine:
        return std::numbers::pi * double(j + 1);
      case BasisKind::cosine:
        return std::numbers::pi * double(j);
      case BasisKind::rectangle:
        return double(j) / double(N);
    }
    return 0.0;
  };
  const auto b = [=](const Stream&, uint64_t j) {
    return kind == BasisKind::rectangle ? double(j + 1) / double(N) : j % 2 ? 0.1 : 0.03;
  };
  const Reals first = c.input("basis.a", N, a), second = c.input("basis.b", N, b);
  return {kind, first, second};
}

}  // namespace lem::test
