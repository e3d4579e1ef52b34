// E_p[ψ_j] for every basis and density: the classes, and what kernels that are templates on them need.
#pragma once

#include <type_traits>

#include "cuda/expect.h"
#include "cuda/expect_powers.h"

namespace lem::LEM_DEVICE {

/// f(j, expectation) for the `count` ≤ 8 basis functions a[j], b[j].
template <class E, class F>
__device__ inline void eight_expectations(E& expect, const float* a, const float* b, int count, F f) {
  if constexpr (requires { expect.eight(a, count, f); }) {
    expect.eight(a, count, f);
  } else {
    for (int j = 0; j < count; ++j) f(j, expect(a[j], b[j]));
  }
}

/// make(null pointer to the class Expect<basis, density>), on the host: how a kernel is picked.
template <class Make>
auto for_kinds(BasisKind basis, DensityKind density, Make make) {
  const auto with_basis = [&]<BasisKind kBasis>(std::integral_constant<BasisKind, kBasis>) {
    switch (density) {
      case DensityKind::truncated_gaussian:
        return make(static_cast<Expect<kBasis, DensityKind::truncated_gaussian>*>(nullptr));
      case DensityKind::parabola:
        return make(static_cast<Expect<kBasis, DensityKind::parabola>*>(nullptr));
      default:
        return make(static_cast<Expect<kBasis, DensityKind::gaussian>*>(nullptr));
    }
  };
  switch (basis) {
    case BasisKind::power:
      return with_basis(std::integral_constant<BasisKind, BasisKind::power>());
    case BasisKind::sine:
      return with_basis(std::integral_constant<BasisKind, BasisKind::sine>());
    case BasisKind::cosine:
      return with_basis(std::integral_constant<BasisKind, BasisKind::cosine>());
    case BasisKind::rectangle:
      return with_basis(std::integral_constant<BasisKind, BasisKind::rectangle>());
    default:
      return with_basis(std::integral_constant<BasisKind, BasisKind::gaussian>());
  }
}

}  // namespace lem::LEM_DEVICE
