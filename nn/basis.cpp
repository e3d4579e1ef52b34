#include "nn/basis.h"

#include <cmath>
#include <numbers>

#include "tensor/error.h"

namespace lem {

double Basis::evaluate(int64_t j, double t) const {
  switch (kind) {
    case BasisKind::gaussian: {
      const double x = (t - a[j]) / b[j];
      return std::exp(-x * x / 2) / (b[j] * std::sqrt(2 * std::numbers::pi));
    }
    case BasisKind::power:
      return std::pow(t, a[j]);
    case BasisKind::sine:
      return std::sin(a[j] * t);
    case BasisKind::cosine:
      return std::cos(a[j] * t);
    case BasisKind::rectangle:
      return t >= a[j] && (t < b[j] || (t == 1 && b[j] == 1)) ? 1 : 0;
  }
  return 0;
}

std::vector<double> Basis::evaluate(double t) const {
  std::vector<double> psi(a.size());
  for (int64_t j = 0; j < size(); ++j) psi[j] = evaluate(j, t);
  return psi;
}

static Basis make_gaussians(int64_t N, const std::vector<double>& widths) {
  const int64_t W = int64_t(widths.size());
  check(W > 0, "[basis] Gaussians need their widths: got none; give at least one, such as .01,.05");
  if (N % W != 0) {
    const std::string choices = N < W ? fmt::format("{}", W) : fmt::format("{} or {}", N / W * W, (N / W + 1) * W);
    fail(
        "[basis] N must be a multiple of the number of widths: got N = {} and {} widths; take N = {}, or another "
        "number "
        "of widths",
        N, W, choices);
  }
  for (double width : widths)
    check(width > 0 && std::isfinite(width),
          "[basis] widths must be positive: got {}; give standard deviations such as .01", width);
  Basis basis{BasisKind::gaussian, {}, {}};
  const int64_t centres = N / W;
  for (int64_t c = 0; c < centres; ++c)
    for (double width : widths) {
      basis.a.push_back(centres == 1 ? 0.0 : double(c) / double(centres - 1));
      basis.b.push_back(width);
    }
  return basis;
}

Basis make_basis(BasisKind kind, int64_t N, const std::vector<double>& widths) {
  check(N > 0, "[basis] a basis needs functions: got N = {}, expected N > 0; give a positive N", N);
  if (kind == BasisKind::gaussian) return make_gaussians(N, widths);
  check(widths.empty(), "[basis] only Gaussians have widths: got {} of them for a {} basis; leave them out",
        widths.size(), name(kind));
  Basis basis{kind, std::vector<double>(N), std::vector<double>(N, 0.0)};
  for (int64_t j = 0; j < N; ++j) switch (kind) {
      case BasisKind::gaussian:
        break;
      case BasisKind::power:
        basis.a[j] = double(j);
        break;
      case BasisKind::sine:
        basis.a[j] = std::numbers::pi * double(j + 1);
        break;
      case BasisKind::cosine:
        basis.a[j] = std::numbers::pi * double(j);
        break;
      case BasisKind::rectangle:
        basis.a[j] = double(j) / double(N), basis.b[j] = double(j + 1) / double(N);
        break;
    }
  return basis;
}

const char* name(BasisKind kind) {
  switch (kind) {
    case BasisKind::gaussian:
      return "gaussian";
    case BasisKind::power:
      return "power";
    case BasisKind::sine:
      return "sine";
    case BasisKind::cosine:
      return "cosine";
    case BasisKind::rectangle:
      return "rectangle";
  }
  return "?";
}

const char* name(DensityKind kind) {
  switch (kind) {
    case DensityKind::gaussian:
      return "gaussian";
    case DensityKind::truncated_gaussian:
      return "truncated_gaussian";
    case DensityKind::parabola:
      return "parabola";
  }
  return "?";
}

}  // namespace lem
