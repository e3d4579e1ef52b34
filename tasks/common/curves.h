// Curves of training runs as one SVG file: loss and accuracy over steps for a person to look at. Made by hand, without
// a library: every shape is a line of text. Draws on its own white ground, so that it reads in light and in dark
// viewers.
#pragma once

#include <string>
#include <vector>

namespace lem {

/// One run's numbers. More than 60 are shown as a smoothed line over the faint raw one, fewer as they are, with dots.
/// Curves with the same label have the same colour in all panels. Where y is not finite the line has a gap.
struct Curve {
  std::string label;
  std::vector<double> x, y;
};

/// A horizontal dashed line: something to compare with, such as a ceiling. Named in a key below the plot.
struct Level {
  std::string label;
  double y;
};

struct Panel {
  std::string title;
  std::string x_label = "step";
  std::vector<Curve> curves = {};
  std::vector<Level> levels = {};
  bool percent = false;  // y is a share: 0.5 reads 50%
};

/// The chart as SVG text, 900 units wide: panels side by side, two in a row.
std::string curves_svg(const std::string& title, const std::vector<Panel>& panels);

/// Writes it to a file, whole or not at all.
void write_curves_svg(const std::string& path, const std::string& title, const std::vector<Panel>& panels);

}  // namespace lem
