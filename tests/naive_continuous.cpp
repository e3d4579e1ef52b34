#include "tests/naive_continuous.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "nn/basis.h"
#include "tensor/cpu/expectation.h"

namespace lem::naive {

Array basis_evaluate(const Array& t, BasisView basis) {
  const Basis functions{basis.kind, {basis.a, basis.a + basis.N}, {basis.b, basis.b + basis.N}};
  Array psi;
  for (double ti : t)
    for (int64_t j = 0; j < basis.N; ++j) psi.push_back(functions.evaluate(j, ti));
  return psi;
}

Array basis_expectation(const Array& density, BasisView basis, DensityKind kind) {
  const size_t n = density.size() / 2;
  std::vector<cpu::Expectation> row(size_t(basis.N));
  Array r;
  for (size_t i = 0; i < n; ++i) {
    cpu::expectation_row(row.data(), basis, kind, density[i], density[n + i]);
    for (const cpu::Expectation& e : row) r.push_back(e.value);
  }
  return r;
}

/// body(expectations of query i, i, where z[b,t,h,:] begins, where values[b,0,h,:] begins)
template <class Body>
static void for_queries(const ContinuousAttentionInputs& x, Body body) {
  const ContinuousAttention& s = x.s;
  const int64_t n = s.B * s.H * s.T, C = s.H * s.D;
  std::vector<cpu::Expectation> row(size_t(x.basis.N));
  for (int64_t b = 0; b < s.B; ++b)
    for (int64_t h = 0; h < s.H; ++h)
      for (int64_t t = 0; t < s.T; ++t) {
        const int64_t i = (b * s.H + h) * s.T + t;
        cpu::expectation_row(row.data(), x.basis, s.density, x.density[i], x.density[n + i]);
        body(row, i, (b * s.T + t) * C + h * s.D, b * x.basis.N * C + h * s.D);
      }
}

// z_i = Σ_j r_ij values_j
Array continuous_attention_forward(const ContinuousAttentionInputs& x) {
  const ContinuousAttention& s = x.s;
  Array z(size_t(s.B * s.T * s.H * s.D));
  for_queries(x, [&](const std::vector<cpu::Expectation>& row, int64_t, int64_t at_z, int64_t at_values) {
    for (int64_t j = 0; j < x.basis.N; ++j)
      for (int64_t d = 0; d < s.D; ++d) z[at_z + d] += row[j].value * x.values[at_values + j * s.H * s.D + d];
  });
  return z;
}

// dvalues_j = Σ_i r_ij dz_i,   dμ_i = Σ_j ∂r_ij/∂μ values_j·dz_i,   dσ²_i likewise
ContinuousAttentionGradients continuous_attention_backward(const Array& dz, const ContinuousAttentionInputs& x) {
  const ContinuousAttention& s = x.s;
  ContinuousAttentionGradients g{Array(x.density.size()), Array(x.values.size())};
  for_queries(x, [&](const std::vector<cpu::Expectation>& row, int64_t i, int64_t at_z, int64_t at_values) {
    for (int64_t j = 0; j < x.basis.N; ++j)
      for (int64_t d = 0; d < s.D; ++d) {
        const int64_t at = at_values + j * s.H * s.D + d;
        const double dr = x.values[at] * dz[at_z + d];
        g.dvalues[at] += row[j].value * dz[at_z + d];
        g.ddensity[i] += row[j].dmu * dr;
        g.ddensity[s.B * s.H * s.T + i] += row[j].dsigma2 * dr;
      }
  });
  return g;
}

// mass[k] = Σ_i Φ((e_{k+1} − μ_i)/σ_i) − Φ((e_k − μ_i)/σ_i), e_k = k/bins but for the outermost two, 1e-6 outside
Array sticky_histogram(const Array& density, int64_t B, int64_t n, int64_t bins) {
  Array mass(size_t(B * bins));
  const auto Phi = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  for (int64_t b = 0; b < B; ++b)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < bins; ++k) {
        const double mu = density[b * n + i], sigma = std::sqrt(density[(B + b) * n + i]);
        const double left = k == 0 ? -1e-6 : double(k) / double(bins);
        const double right = k + 1 == bins ? 1 + 1e-6 : double(k + 1) / double(bins);
        mass[b * bins + k] += Phi((right - mu) / sigma) - Phi((left - mu) / sigma);
      }
  return mass;
}

// Row b takes 2R draws of its stream: R for heights on an axis on which its masses lie end to end, each of which picks
// the bin that it hits, and R for the places in the bins. Stratified: height i of R is (i + the first draw)/R of the
// whole.
StickyPoints sticky_points(const Array& mass, StickyDraw draw, StickyPlace place, const std::vector<Stream>& streams,
                           int64_t bins, int64_t R) {
  StickyPoints y;
  for (int64_t b = 0; b < int64_t(streams.size()); ++b) {
    Array top(mass.begin() + b * bins, mass.begin() + (b + 1) * bins), heights, u;
    std::partial_sum(top.begin(), top.end(), top.begin());
    const auto uniform = [&](int64_t i) { return streams[size_t(b)].uniform(uint64_t(i)); };
    const bool usable = top.back() > 0 && std::isfinite(top.back());
    y.fallbacks.push_back(!usable);
    for (int64_t i = 0; usable && i < R; ++i)
      heights.push_back(top.back() *
                        (draw == StickyDraw::stratified ? (double(i) + uniform(0)) / double(R) : uniform(i)));
    std::sort(heights.begin(), heights.end());
    for (int64_t i = 0; i < R; ++i) {
      if (!usable) {
        u.push_back(double(i + 1) / double(R));
        continue;
      }
      const auto bin = std::upper_bound(top.begin(), top.end(), heights[i]) - top.begin();
      const double within = place == StickyPlace::left ? 0 : place == StickyPlace::centre ? 0.5 : uniform(R + i);
      u.push_back((double(bin) + within) / double(bins));
    }
    std::sort(u.begin(), u.end());
    y.points.insert(y.points.end(), u.begin(), u.end());
  }
  return y;
}

}  // namespace lem::naive
