// The continuous memory over a long stream. Segment k is all ones in channel k: where the channel is bright, the signal
// remembers that segment. Each update squeezes what is there into [0, τ] and writes the newest behind it.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "nn/ridge.h"

using namespace lem;

int main() {
  const int64_t N = 64, L = 32, R = 256, segments = 10;
  const double tau = .75, lambda = 1e-3;
  const Basis basis = make_basis(BasisKind::gaussian, N, {.02});
  const std::vector<double> first = ridge_operator(basis, positions(L), lambda, true);
  const Contraction next = contraction(basis, R, tau, L, lambda, true);

  // coeffs (N, segments), column k the channel of segment k: A coeffs + G_newᵀ X, with X one in its own channel.
  std::vector<double> coeffs(size_t(N * segments));
  for (int64_t k = 0; k < segments; ++k) {
    std::vector<double> updated(coeffs.size());
    for (int64_t i = 0; i < N; ++i) {
      if (k > 0)
        for (int64_t j = 0; j < N; ++j)
          for (int64_t c = 0; c < k; ++c)
            updated[size_t(i * segments + c)] += next.A[size_t(i * N + j)] * coeffs[size_t(j * segments + c)];
      for (int64_t l = 0; l < L; ++l)
        updated[size_t(i * segments + k)] += (k > 0 ? next.G_new : first)[size_t(l * N + i)];
    }
    coeffs = updated;
  }

  const std::string shades = " .:-=+*#%@";
  fmt::print("after {} segments of {} vectors: {} coefficients, as after the first\n", segments, L, N);
  for (int64_t k = 0; k < segments; ++k) {
    std::string line;
    double share = 0;  // ∫ of the channel over [0, 1]: how much of the signal's time is its own
    for (int64_t column = 0; column < 64; ++column) {
      const std::vector<double> psi = basis.evaluate((double(column) + .5) / 64);
      double signal = 0;
      for (int64_t j = 0; j < N; ++j) signal += psi[size_t(j)] * coeffs[size_t(j * segments + k)];
      share += signal / 64;
      line += shades[size_t(std::clamp(std::lround(9 * signal), 0L, 9L))];
    }
    fmt::print("segment {:2} |{}| {:5.1f} %\n", k + 1, line, 100 * share);
  }
  fmt::print("           0{:>63}\n", "t = 1");
}
