// Training curves as an SVG picture: panels side by side, each with the raw numbers faint and their running mean on
// top.
#pragma once

#include <string>
#include <vector>

namespace lem {

struct Curve {
  std::string name;          // curves of the same place in every panel share a colour and one legend
  std::vector<double> x, y;  // as many; y may hold NaN: a gap
};

/// A dashed horizontal line with a label, such as a ceiling.
struct CurveReference {
  double y;
  std::string label;
};

struct CurvePanel {
  std::string title, x_label;
  std::vector<Curve> curves;
  std::vector<CurveReference> references;
  bool percent = false;  // y is a share: shown from 0 to 100 %
};

/// The picture as text. Stands on its own white ground, needs no font or file from outside.
std::string curves_svg(const std::string& title, const std::vector<CurvePanel>& panels);

/// Ticks at 1, 2 or 5 times a power of ten inside [low, high], about `count` of them.
std::vector<double> nice_ticks(double low, double high, int count);

/// Mean over a window of `width` neighbours (fewer at the ends), leaving NaN out; NaN where the value itself is.
std::vector<double> running_mean(const std::vector<double>& y, int width);

}  // namespace lem
