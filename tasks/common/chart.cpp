#include "tasks/common/chart.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "tensor/error.h"

namespace lem {
namespace {

/// The round step that divides a span in about `wanted` parts.
double nice_step(double span, int wanted) {
  const double raw = span / wanted, power = std::pow(10, std::floor(std::log10(raw)));
  const double digit = raw / power;
  return power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
}

}  // namespace

std::vector<double> nice_ticks(Range range, int wanted) {
  if (!(range.span() > 0) || !std::isfinite(range.span())) return {range.low};
  const double step = nice_step(range.span(), wanted), slack = 1e-9 * step;
  std::vector<double> ticks;
  for (double i = std::ceil((range.low - slack) / step); i * step <= range.high + slack; ++i) ticks.push_back(i * step);
  return ticks;
}

Range widen_to_ticks(Range range, int wanted) {
  if (!(range.low <= range.high) || !std::isfinite(range.span())) return {0, 1};
  if (range.span() <= 1e-9 * std::max(std::abs(range.low), std::abs(range.high))) {  // all the same, or all zero
    const double around = range.low == 0 ? 1 : 0.1 * std::abs(range.low);
    range = {range.low - around, range.high + around};
  }
  const double step = nice_step(range.span(), wanted), slack = 1e-6;
  return {step * std::floor(range.low / step + slack), step * std::ceil(range.high / step - slack)};
}

std::string tick_text(double value, double step, bool percent) {
  const double shown = percent ? 100 * value : value, shown_step = percent ? 100 * step : step;
  if (!percent && shown_step >= 1000 && std::abs(shown) >= 1000) return fmt::format("{:g}k", shown / 1000);
  const int decimals = std::clamp(int(-std::floor(std::log10(shown_step) + 1e-9)), 0, 9);
  if (std::abs(shown) >= 1e7) return fmt::format("{:g}", shown);
  return fmt::format("{:.{}f}{}", shown == 0 ? 0 : shown, decimals, percent ? "%" : "");
}

Range bulk(std::vector<double> values, double skip) {
  std::erase_if(values, [](double v) { return !std::isfinite(v); });
  if (values.empty()) return {1, 0};
  std::sort(values.begin(), values.end());
  const size_t left_out = size_t(skip * double(values.size()));
  return {values[left_out], values[values.size() - 1 - left_out]};
}

std::vector<double> smooth(const std::vector<double>& y, int64_t h) {
  const int64_t n = int64_t(y.size());
  std::vector<double> means(n, NAN);
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(y[i])) continue;
    const int64_t reach = std::min(h, i);
    double sum = 0, weights = 0;
    for (int64_t k = i - reach; k <= std::min(i + reach, n - 1); ++k) {
      const double weight = double(reach + 1 - std::abs(k - i));
      if (std::isfinite(y[k])) sum += weight * y[k], weights += weight;
    }
    means[i] = sum / weights;
  }
  return means;
}

Points thin(const Points& points, int64_t columns) {
  const size_t n = points.x.size();
  if (int64_t(n) <= 2 * columns) return points;
  const auto [low, high] = std::minmax_element(points.x.begin(), points.x.end());
  const double per_column = std::max((*high - *low) / double(columns), 1e-300);
  Points thinned;
  const auto add = [&](size_t i) { thinned.x.push_back(points.x[i]), thinned.y.push_back(points.y[i]); };
  for (size_t begin = 0, end = 0; begin < n; begin = end) {
    const double column = std::floor((points.x[begin] - *low) / per_column);
    size_t least = n, most = n;  // n: nothing finite so far
    for (end = begin; end < n && std::floor((points.x[end] - *low) / per_column) == column; ++end) {
      if (!std::isfinite(points.y[end])) continue;
      if (least == n || points.y[end] < points.y[least]) least = end;
      if (most == n || points.y[end] > points.y[most]) most = end;
    }
    if (least == n) least = most = begin;  // a gap stays a gap
    add(std::min(least, most));
    if (least != most) add(std::max(least, most));
  }
  return thinned;
}

}  // namespace lem
