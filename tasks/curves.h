#pragma once
#include <string>
#include <vector>
namespace lem {
struct Curve { std::string name; std::vector<double> x, y; };
struct CurveReference { double y; std::string label; };
struct CurvePanel { std::string title, y_label; std::vector<Curve> curves; std::vector<CurveReference> references; bool percent = false; };
inline void write_curves_svg(const std::string&, const std::string&, const std::vector<CurvePanel>&) {}
}
