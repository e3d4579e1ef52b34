// Numbers to check against: integrals by brute force, derivatives by finite differences, random fills.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tensor/random.h"
#include "tensor/real.h"

namespace lem::test {

/// Calls f(t, weight) at the nodes of the three-point Gauss rule on `panels` equal panels of [lo, hi].
template <class F>
void for_each_node(long double lo, long double hi, int64_t panels, F f) {
  const long double half = (hi - lo) / (2 * panels), node = std::sqrt(0.6L);
  if (!(lo < hi)) return;
  for (int64_t i = 0; i < panels; ++i) {
    const long double mid = lo + half * (2 * i + 1);
    f(mid, half * 8 / 9);
    f(mid - half * node, half * 5 / 9), f(mid + half * node, half * 5 / 9);
  }
}

/// n numbers uniform in [lo, hi), the same for the same stream.
inline std::vector<real> random_fill(int64_t n, uint64_t stream, double lo = -1, double hi = 1) {
  const Stream draws{20, stream};
  std::vector<real> x(n);
  for (int64_t i = 0; i < n; ++i) x[i] = real(lo + (hi - lo) * draws.uniform(i));
  return x;
}

inline double dot(const std::vector<real>& a, const std::vector<real>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double(a[i]) * double(b[i]);
  return sum;
}

/// The largest of the numbers it is shown, none of them negative, and which it was. NaN counts as infinity: no
/// comparison with a tolerance passes it, wherever it stands.
struct Largest {
  double value = 0;
  size_t at = 0;

  void add(double x, size_t i = 0) {
    if (std::isnan(x)) x = std::numeric_limits<double>::infinity();
    if (x > value) value = x, at = i;
  }
};

/// Largest |a − b| of two arrays, infinite if they are not equally long. Equal infinities differ by nothing.
template <class A, class B>
Largest largest_difference(const std::vector<A>& a, const std::vector<B>& b) {
  Largest largest;
  for (size_t i = 0; i < a.size() && i < b.size(); ++i)
    if (double(a[i]) != double(b[i])) largest.add(std::abs(double(a[i]) - double(b[i])), i);
  if (a.size() != b.size()) largest.add(std::numeric_limits<double>::infinity(), std::min(a.size(), b.size()));
  return largest;
}

/// The same as a share of the largest finite |b|, and at least of `scale`.
template <class A, class B>
double relative_error(const std::vector<A>& a, const std::vector<B>& b, double scale = 1e-30) {
  for (const B& x : b)
    if (std::isfinite(double(x))) scale = std::max(scale, std::abs(double(x)));
  return largest_difference(a, b).value / scale;
}

/// d(cotangent · f(x))/dx by central differences of fourth order; f returns its outputs as one array.
inline std::vector<double> finite_difference(const std::function<std::vector<real>(const std::vector<real>&)>& f,
                                             std::vector<real> x, const std::vector<real>& cotangent, double step) {
  std::vector<double> gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const real at = x[i];
    auto value = [&](double shift) {
      x[i] = real(at + shift);
      return dot(f(x), cotangent);
    };
    gradient[i] = (8 * (value(step) - value(-step)) - (value(2 * step) - value(-2 * step))) / (12 * step);
    x[i] = at;
  }
  return gradient;
}

}  // namespace lem::test
