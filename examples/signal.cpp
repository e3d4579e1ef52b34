// A list of numbers becomes a function of time: fit by ridge regression, read at a point, read through a density.
// docs/continuous-memory.md derives both.
#include <fmt/core.h>

#include <cmath>

#include "autograd/ops.h"
#include "nn/ridge.h"
#include "tensor/random.h"

using namespace lem;

int main() {
  const int64_t L = 200;
  const std::vector<double> t = positions(L);
  std::vector<double> x;  // a rising tone, with noise of ±0.1
  for (int64_t l = 0; l < L; ++l) {
    const double noise = .2 * (philox4x32(1, 0, uint64_t(l))[0] / 4294967296. - .5);
    x.push_back(std::sin(20 * t[size_t(l)] * t[size_t(l)]) + noise);
  }

  std::vector<double> coeffs;
  Basis basis;
  for (const int64_t N : {8, 16, 32, 64}) {
    basis = make_basis(BasisKind::gaussian, N, {1. / double(N)});
    const std::vector<double> G = ridge_operator(basis, t, 1e-3, false);
    coeffs.assign(size_t(N), 0);  // Gᵀ x
    for (int64_t l = 0; l < L; ++l)
      for (int64_t j = 0; j < N; ++j) coeffs[size_t(j)] += G[size_t(l * N + j)] * x[size_t(l)];
    double error = 0;
    for (const double at : t) {
      double signal = 0;
      for (int64_t j = 0; j < N; ++j) signal += basis.evaluate(j, at) * coeffs[size_t(j)];
      error += std::pow(signal - std::sin(20 * at * at), 2);
    }
    fmt::print("{} numbers as {:2} coefficients: off the true tone by {:.3f}\n", L, N, std::sqrt(error / double(L)));
  }

  // Attention reads the signal through a density N(μ, σ²): the wider, the more of the past is averaged.
  const DeviceBasis on_device = {basis.kind, Tensor::from({basis.a.begin(), basis.a.end()}, {basis.size()}),
                                 Tensor::from({basis.b.begin(), basis.b.end()}, {basis.size()})};
  const Tensor values = Tensor::from({coeffs.begin(), coeffs.end()}, {1, basis.size(), 1});
  for (const real sigma : {real(.01), real(.05), real(.2)}) {
    const Tensor mu_sigma2 = Tensor::from({real(.28), sigma * sigma}, {2, 1, 1, 1});
    const Variable z = continuous_attention(mu_sigma2, values, on_device, DensityKind::gaussian);
    fmt::print("around t = 0.28 with sigma {:.2f} it reads {:6.3f}\n", sigma, item(z.value()));
  }
}
