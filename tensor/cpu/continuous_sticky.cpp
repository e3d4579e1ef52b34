// Sticky memories (Martins et al., arXiv 2109.00301, section 3.3): where did the previous segment look, and at which
// points is the old signal read next.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "tensor/backend.h"
#include "tensor/cpu/parallel.h"
#include "tensor/cpu/simd.h"
#include "tensor/expectation.h"

namespace lem::cpu {

/// Φ(x) to 1e-9, branch free so that a loop over it becomes vector code; in double, since the mass of a narrow bin is a
/// small difference of two of these. With `real` = double all its digits. NaN stays NaN.
///
/// The tail of |x| is e^{−x²/2} t S(t) with t = 1/(1 + 0.31 |x|) ∈ (0, 1]: t S(t) = e^{x²/2} (1 − Φ(|x|)) is smooth and
/// of size 1/|x| far out. S is interpolated at the 12 Chebyshev nodes of [0, 1]; largest error of the tail: 7e-10.
static double bin_cdf(double x) {
  if constexpr (kDouble) return normal_cdf(x);
  // Highest power first.
  constexpr double S[] = {0.014382362469765696, -0.08244935485560259,  0.18556815412707008,  -0.19295888525139652,
                          0.086057485462890877, -0.043640503687703464, 0.031456465609630928, 0.05430258113969224,
                          0.088157071616980878, 0.11178027111685745,   0.12367224648023213,  0.12367210644414114};
  const double y = std::abs(x), t = 1 / (1 + 0.31 * y);
  double s = 0;
  for (double c : S) s = s * t + c;
  const double tail = s * t * exp(-0.5 * y * y);
  return x < 0 ? tail : 1 - tail;
}

// mass[k] = Σ_i Φ((e_{k+1} − μ_i)/σ_i) − Φ((e_k − μ_i)/σ_i)
//
// The sum over densities is taken at the edges, below[e] = Σ_i Φ((e − μ_i)/σ_i), in double, and differenced once at the
// end. Only edges within `reach` σ of μ need Φ: it is 0 (to 1e-9) before them and 1 after them, and the ones are
// counted, not evaluated: ones[e] densities are done at edge e, and a running sum adds them to all edges from there on.
void sticky_histogram(real* mass, const real* density, int64_t B, int64_t n, int64_t bins) {
  const double reach = kDouble ? 9 : 6;
  std::vector<double> edge(bins + 1);
  for (int64_t e = 0; e <= bins; ++e) edge[e] = bin_edge(e, bins);
  parallel_for(B, n * bins, [&](int64_t begin, int64_t end) {
    std::vector<double> below, ones;  // (bins + 1), (bins + 2)
    for (int64_t b = begin; b < end; ++b) {
      below.assign(size_t(bins + 1), 0), ones.assign(size_t(bins + 2), 0);
      const real *mus = density + b * n, *sigma2 = density + (B + b) * n;  // (n) each
      for (int64_t i = 0; i < n; ++i) {
        const double mu = mus[i], sigma = std::sqrt(double(sigma2[i])), inverse = 1 / sigma;
        const double left = (mu - reach * sigma) * double(bins), right = (mu + reach * sigma) * double(bins);
        // NaN compares false and takes every edge, so that it is seen.
        const int64_t first = left > 1 ? int64_t(std::min(left, double(bins))) : 0;
        const int64_t last = right < double(bins) - 1 ? int64_t(std::max(right, -1.0)) + 1 : bins;  // inclusive
        double* sums = below.data();
#pragma omp simd
        for (int64_t e = first; e <= last; ++e) sums[e] += bin_cdf((edge[e] - mu) * inverse);
        ones[last + 1] += 1;
      }
      std::partial_sum(ones.begin(), ones.end(), ones.begin());
      for (int64_t k = 0; k < bins; ++k) {
        const double inside = (below[k + 1] + ones[k + 1]) - (below[k] + ones[k]);
        mass[b * bins + k] = real(inside < 0 ? 0 : inside);  // rounding may leave −1e-9; NaN passes
      }
    }
  });
}

/// The R bins of one batch row, ascending, drawn with the given masses (bins), whose sum is `total`.
static void draw_bins(std::vector<int64_t>& drawn, const real* mass, double total, StickyDraw draw,
                      const Stream& stream, int64_t bins) {
  const int64_t R = int64_t(drawn.size());
  // Heights x_i in [0, total), ascending: stratified ones are R even steps from one random offset, multinomial ones R
  // independent draws.
  std::vector<double> x(R);
  const double offset = stream.uniform(0);
  for (int64_t i = 0; i < R; ++i)
    x[i] = total * (draw == StickyDraw::stratified ? (double(i) + offset) / double(R) : stream.uniform(i));
  if (draw == StickyDraw::multinomial) std::sort(x.begin(), x.end());
  // Bin k covers the heights from mass[0] + … + mass[k−1] up to that plus mass[k].
  int64_t last = bins - 1;
  while (!(mass[last] > 0)) --last;
  double top = 0;
  for (int64_t k = 0, i = 0; k <= last; ++k) {
    top += mass[k];
    while (i < R && (x[i] < top || k == last)) drawn[i++] = k;
  }
}

// A row's draws: 2R of its stream, the first R for the bins (stratified: one of them), the rest for the places inside
// the bins.
void sticky_points(real* points, int32_t* fallbacks, const real* mass, StickyDraw draw, StickyPlace place,
                   const Stream* streams, int64_t B, int64_t bins, int64_t R) {
  std::vector<int64_t> drawn(R);
  for (int64_t b = 0; b < B; ++b) {
    const real* mass_b = mass + b * bins;  // (bins)
    real* u = points + b * R;              // (R)
    double total = 0;
    for (int64_t k = 0; k < bins; ++k) total += mass_b[k];
    fallbacks[b] = !(total > 0 && std::isfinite(total));
    if (fallbacks[b]) {
      for (int64_t i = 0; i < R; ++i) u[i] = real(double(i + 1) / double(R));
      continue;
    }
    draw_bins(drawn, mass_b, total, draw, streams[b], bins);
    for (int64_t i = 0; i < R; ++i) {
      const double within = place == StickyPlace::left     ? 0
                            : place == StickyPlace::centre ? 0.5
                                                           : streams[b].uniform(R + i);
      u[i] = real((double(drawn[i]) + within) / double(bins));
    }
    if (place == StickyPlace::uniform) std::sort(u, u + R);
  }
}

}  // namespace lem::cpu
