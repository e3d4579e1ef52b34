// The table's entries of attention to the continuous memory (autograd/continuous.cpp).
#include <cmath>

#include "tests/op_table.h"

namespace lem::test {
namespace {

/// N functions of a kind, with parameters that are no round numbers.
DeviceBasis test_basis(BasisKind kind, int64_t N, Device device) {
  std::vector<real> a, b;
  for (int64_t j = 0; j < N; ++j) {
    const double centre = (double(j) + 0.45) / double(N);
    switch (kind) {
      case BasisKind::gaussian:
        a.push_back(real(centre)), b.push_back(real(j % 2 ? 0.19 : 0.07));
        break;
      case BasisKind::power:
        a.push_back(real(j)), b.push_back(0);
        break;
      case BasisKind::rectangle:
        a.push_back(real(centre - 0.45 / double(N))), b.push_back(real(centre + 0.55 / double(N)));
        break;
      default:  // sine, cosine
        a.push_back(real(3.1 * double(j))), b.push_back(0);
    }
  }
  return {kind, Tensor::from(a, {N}, device), Tensor::from(b, {N}, device)};
}

/// (μ, σ²): the first half of the elements in (0.05, 0.95), the second in (0.01, 0.03).
Draw location_and_variance(const Shape& shape) {
  const uint64_t half = uint64_t(shape.numel()) / 2;
  return [=](const Stream& s, uint64_t i) { return i < half ? 0.05 + 0.9 * s.uniform(i) : 0.01 + 0.02 * s.uniform(i); };
}

/// Scores of which the second half, those of σ², is ±2: on one side or the other of a floor at 0.6.
Draw around_the_floor(const Shape& shape) {
  const uint64_t half = uint64_t(shape.numel()) / 2;
  return [=](const Stream& s, uint64_t i) { return i < half ? s.normal(i) : s.uniform(i) < 0.5 ? -2 : 2; };
}

struct Size {
  int64_t B, T, H, D, N;
};

}  // namespace

void add_continuous_ops(std::vector<OpCase>& table) {
  for (const auto& [B, T, H, D, P] : {Size{2, 5, 3, 4, 2},
                                      {1, 1, 1, 1, 1},
                                      {1, 33, 1, 31, 2},
                                      {2, 1, 5, 3, 7},
                                      {1, 257, 2, 2, 2},
                                      {2, 0, 3, 4, 2},
                                      {0, 2, 3, 4, 2}})
    table.push_back({"head_scores",
                     fmt::format("H = {}", H),
                     {{"q", {B, T, H * D}}, {"k", {B, P, H * D}}},
                     [H = H](const Arguments& x) { return head_scores(x[0], x[1], H); }});

  for (const Shape& s : {Shape{2, 2, 3, 5}, {2, 1, 1, 1}, {2, 1, 1, 33}, {2, 1, 1, 257}, {2, 0, 3, 5}}) {
    table.push_back({"density", "", {{"s", s}}, [](const Arguments& x) { return density(x[0], real(1e-6)); }});
    table.push_back({"density", "some at the floor", {{"s", s, around_the_floor(s)}}, [](const Arguments& x) {
                       return density(x[0], real(0.6));
                     }});
  }

  for (const auto& [B, T, H, D, N] : {Size{2, 5, 3, 4, 6}, {1, 1, 1, 1, 1}, {1, 33, 1, 3, 31}, {2, 0, 3, 4, 6}})
    table.push_back({"moment_density",
                     fmt::format("H = {}", H),
                     {{"q", {B, T, H * D}}, {"keys", {B, N, H * D}}},
                     [H = H, N = N](const Arguments& x) {
                       const DeviceBasis basis = test_basis(BasisKind::gaussian, N, x[0].device());
                       return moment_density(x[0], x[1], H, basis, real(1e-6));
                     }});

  const std::pair<BasisKind, const char*> bases[] = {{BasisKind::gaussian, "gaussian"},
                                                     {BasisKind::power, "power"},
                                                     {BasisKind::sine, "sine"},
                                                     {BasisKind::cosine, "cosine"},
                                                     {BasisKind::rectangle, "rectangle"}};
  const std::pair<DensityKind, const char*> densities[] = {{DensityKind::gaussian, "gaussian"},
                                                           {DensityKind::truncated_gaussian, "truncated gaussian"},
                                                           {DensityKind::parabola, "parabola"}};
  for (const auto& [B, T, H, D, N] :
       {Size{2, 5, 3, 4, 6}, {1, 1, 1, 1, 1}, {1, 33, 1, 3, 31}, {1, 257, 1, 1, 2}, {2, 0, 3, 4, 6}})
    for (const auto& [basis_kind, basis_name] : bases)
      for (const auto& [density_kind, density_name] : densities) {
        const Shape d{2, B, H, T};
        table.push_back({"continuous_attention",
                         fmt::format("{} basis, {} density", basis_name, density_name),
                         {{"density", d, location_and_variance(d)}, {"values", {B, N, H * D}}},
                         [=, N = N, basis_kind = basis_kind, density_kind = density_kind](const Arguments& x) {
                           const DeviceBasis basis = test_basis(basis_kind, N, x[0].device());
                           return continuous_attention(x[0], x[1], basis, density_kind);
                         },
                         1e-3});
      }

  for (const auto& [B, T, H, D, G] : {Size{2, 5, 3, 4, 9}, {1, 1, 1, 1, 1}, {1, 33, 1, 3, 31}, {2, 0, 3, 4, 5}})
    table.push_back({"gibbs_attention",
                     fmt::format("H = {}", H),
                     {{"q", {B, T, H * D}}, {"keys", {B, G, H * D}}, {"values", {B, G, H * D}}},
                     [H = H, G = G](const Arguments& x) {
                       std::vector<real> log_weights(static_cast<size_t>(G), 0);  // the trapezoid's ends weigh half
                       log_weights.front() = log_weights.back() = real(std::log(0.5));
                       return gibbs_attention(x[0], x[1], x[2], Tensor::from(log_weights, {G}, x[0].device()), H);
                     }});

  for (const Shape& s : {Shape{2, 2, 3, 5}, {2, 1, 1, 1}, {2, 3, 1, 33}, {2, 1, 1, 257}, {2, 2, 3, 0}})
    for (real mu0 : {real(NAN), real(0.4)})
      table.push_back({"kl_to_prior",
                       std::isnan(mu0) ? "" : "mu0",
                       {{"density", s, location_and_variance(s)}},
                       [mu0](const Arguments& x) { return kl_to_prior(x[0], real(0.3), mu0); },
                       1e-3});
  const Shape ragged{2, 3, 2, 5};
  table.push_back({"kl_to_prior",
                   "rows of 5, 0 and 3 steps",
                   {{"density", ragged, location_and_variance(ragged)}},
                   [](const Arguments& x) {
                     return kl_to_prior(x[0], real(0.3), real(0.4), Tokens::from({5, 0, 3}, {3}, x[0].device()));
                   },
                   1e-3});
}

}  // namespace lem::test
