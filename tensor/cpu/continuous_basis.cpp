// The basis functions ψ_j(t) themselves, and their expectations under a density, as plain matrices.
#include <cmath>
#include <vector>

#include "tensor/backend.h"
#include "tensor/cpu/expectation.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"

namespace lem::cpu {

/// ψ(t) of one basis function with the parameters of BasisView.
static real basis_function(BasisKind kind, real t, real a, real b) {
  switch (kind) {
    case BasisKind::gaussian: {
      const real x = (t - a) / b;
      return real(0.3989422804014327) / b * exp(real(-0.5) * x * x);  // 1/√(2π)
    }
    case BasisKind::power:
      return std::pow(t, a);
    case BasisKind::sine:
      return std::sin(a * t);
    case BasisKind::cosine:
      return std::cos(a * t);
    case BasisKind::rectangle:
      return t >= a && (t < b || (t == 1 && b == 1)) ? 1 : 0;
  }
  return 0;
}

void basis_evaluate(real* psi, const real* t, BasisView basis, int64_t n) {
  parallel_for(n, basis.N, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t j = 0; j < basis.N; ++j)
        psi[i * basis.N + j] = basis_function(basis.kind, t[i], basis.a[j], basis.b[j]);
  });
}

// r_ij = E_{p_i}[ψ_j], p_i the density (μ_i, σ²_i). The closed forms stand in expectation.h.
void basis_expectation(real* r, const real* density, BasisView basis, DensityKind kind, int64_t n) {
  parallel_for(n, basis.N, [=](int64_t begin, int64_t end) {
    std::vector<Expectation> row(size_t(basis.N));
    for (int64_t i = begin; i < end; ++i) {
      expectation_row(row.data(), basis, kind, density[i], density[n + i]);
      for (int64_t j = 0; j < basis.N; ++j) r[i * basis.N + j] = real(row[size_t(j)].value);
    }
  });
}

}  // namespace lem::cpu
