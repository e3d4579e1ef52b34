// The arithmetic of charts: ranges, ticks, smoothing, thinning.
#pragma once

#include <string>
#include <vector>

namespace lem {

struct Range {
  double low = 0, high = 1;
  double span() const { return high - low; }
};

/// About `wanted` round numbers (1, 2 or 5 times a power of ten apart) from `range.low` to `range.high`.
std::vector<double> nice_ticks(Range range, int wanted);

/// `range` widened to the ticks around it; never empty.
Range widen_to_ticks(Range range, int wanted);

/// "0.25" for steps of 0.05, "15k" for 15,000; with `percent`, 0.25 is "25%".
std::string tick_text(double value, double step, bool percent);

/// Where most of the values lie: between the shares `skip` and 1 − skip of the sorted finite ones. Nothing finite: low
/// > high.
Range bulk(std::vector<double> values, double skip);

/// Means over up to h neighbours on either side, weighted by nearness; fewer at the beginning, where curves are steep,
/// and only earlier ones at the end. What is not finite is left out of the means and stays a gap.
std::vector<double> smooth(const std::vector<double>& y, int64_t h);

struct Points {
  std::vector<double> x, y;
};

/// At most two points for each of `columns` equal parts of the x axis, its smallest and its largest y in order of x:
/// drawn that wide it looks the same. Fewer points stay as they are.
Points thin(const Points& points, int64_t columns);

}  // namespace lem
