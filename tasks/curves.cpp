#include "tasks/curves.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace lem {
namespace {

// Told apart by readers with any kind of colour vision (Okabe & Ito).
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"};
constexpr double kPanelWidth = 420, kPanelHeight = 250, kGap = 30, kTop = 96, kBottom = 46, kLeft = 52, kRight = 62;

std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else
      out += c;
  }
  return out;
}

const char* colour(size_t i) { return kColours[i % std::size(kColours)]; }

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;
  void include(double v) {
    if (!std::isfinite(v)) return;
    low = std::min(low, v), high = std::max(high, v);
  }
  /// Never empty, so that one can divide by its length.
  void settle() {
    if (!(low <= high)) low = 0, high = 1;
    if (low == high) low -= .5, high += .5;
  }
};

/// One panel's frame in the picture, and the map from data to it.
struct Frame {
  double left, top, width, height;
  Range x, y;
  double px(double v) const { return left + width * (v - x.low) / (x.high - x.low); }
  double py(double v) const { return top + height * (1 - (v - y.low) / (y.high - y.low)); }
};

std::string text(double x, double y, const std::string& words, const std::string& style) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, style, escape(words));
}

std::string number(double v, bool percent) {
  if (percent) return fmt::format("{:g} %", std::round(v * 1000) / 10);
  return std::abs(v) >= 1000 && v == std::round(v) ? fmt::format("{:L}", int64_t(v)) : fmt::format("{:.3g}", v);
}

/// A path through the points, broken where y is NaN, thinned to what the picture can show.
std::string path(const Frame& f, const Curve& c, const std::vector<double>& y, const std::string& style) {
  const size_t n = std::min(c.x.size(), y.size()), step = std::max<size_t>(1, n / 800);
  std::string d;
  bool pen_down = false;
  for (size_t i = 0; i < n; i += (i + step < n || i + 1 == n) ? step : n - 1 - i) {
    if (!std::isfinite(y[i]) || !std::isfinite(c.x[i])) {
      pen_down = false;
      continue;
    }
    d += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", f.px(c.x[i]), f.py(y[i]));
    pen_down = true;
  }
  return d.empty() ? "" : fmt::format("<path d=\"{}\" fill=\"none\" {}/>\n", d, style);
}

Frame frame(const CurvePanel& panel, double left) {
  Frame f{left + kLeft, kTop, kPanelWidth - kLeft - kRight, kPanelHeight, {}, {}};
  for (const Curve& c : panel.curves) {
    for (double v : c.x) f.x.include(v);
    for (double v : c.y) f.y.include(v);
  }
  for (const CurveReference& r : panel.references) f.y.include(r.y);
  if (panel.percent) f.y.low = 0, f.y.high = 1;
  f.x.settle(), f.y.settle();
  if (!panel.percent) {
    f.y.low = f.y.low > 0 ? 0 : f.y.low;
    f.y.high += .04 * (f.y.high - f.y.low);
  }
  return f;
}

std::string axes(const Frame& f, const CurvePanel& panel) {
  std::string out = text(f.left, f.top - 14, panel.title, "class=\"h\"");
  for (double v : nice_ticks(f.y.low, f.y.high, 5)) {
    out += fmt::format("<path d=\"M{:.1f} {:.1f}h{:.1f}\" class=\"grid\"/>\n", f.left, f.py(v), f.width);
    out += text(f.left - 8, f.py(v) + 4, number(v, panel.percent), "class=\"t\" text-anchor=\"end\"");
  }
  for (double v : nice_ticks(f.x.low, f.x.high, 5))
    out += text(f.px(v), f.top + f.height + 18, number(v, false), "class=\"t\" text-anchor=\"middle\"");
  out += text(f.left + f.width / 2, f.top + f.height + 36, panel.x_label, "class=\"t\" text-anchor=\"middle\"");
  return out;
}

std::string references(const Frame& f, const CurvePanel& panel) {
  std::string out;
  for (const CurveReference& r : panel.references) {
    if (!std::isfinite(r.y)) continue;
    out += fmt::format("<path d=\"M{:.1f} {:.1f}h{:.1f}\" class=\"ref\"/>\n", f.left, f.py(r.y), f.width);
    const double above = f.py(r.y) - 6, below = f.py(r.y) + 16;
    out += text(f.left + f.width - 4, above < f.top + 8 ? below : above,
                fmt::format("{} {}", r.label, number(r.y, panel.percent)), "class=\"r\" text-anchor=\"end\"");
  }
  return out;
}

/// The last values beside the ends of the lines, pushed apart where they would overlap.
std::string end_labels(const Frame& f, const CurvePanel& panel, const std::vector<std::vector<double>>& smooth) {
  struct Label {
    double y;
    std::string words;
    size_t curve;
  };
  std::vector<Label> labels;
  for (size_t i = 0; i < panel.curves.size(); ++i)
    for (size_t j = smooth[i].size(); j-- > 0;)
      if (std::isfinite(smooth[i][j])) {
        labels.push_back({f.py(smooth[i][j]), number(smooth[i][j], panel.percent), i});
        break;
      }
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  for (size_t i = 1; i < labels.size(); ++i) labels[i].y = std::max(labels[i].y, labels[i - 1].y + 16);
  std::string out;
  for (const Label& l : labels)
    out += text(f.left + f.width + 7, l.y + 4, l.words, fmt::format("class=\"e\" fill=\"{}\"", colour(l.curve)));
  return out;
}

std::string draw_panel(const CurvePanel& panel, double left) {
  const Frame f = frame(panel, left);
  std::string out = axes(f, panel);
  std::vector<std::vector<double>> smooth;
  for (const Curve& c : panel.curves) smooth.push_back(running_mean(c.y, std::max(1, int(c.y.size() / 40))));
  for (size_t i = 0; i < panel.curves.size(); ++i)
    out += path(f, panel.curves[i], panel.curves[i].y,
                fmt::format("stroke=\"{}\" stroke-width=\"1\" opacity=\"0.18\"", colour(i)));
  bool any = false;
  for (size_t i = 0; i < panel.curves.size(); ++i) {
    const std::string line =
        path(f, panel.curves[i], smooth[i],
             fmt::format("stroke=\"{}\" stroke-width=\"2.4\" stroke-linecap=\"round\" stroke-linejoin=\"round\"",
                         colour(i)));
    any = any || !line.empty();
    out += line;
  }
  if (!any)
    out += text(f.left + f.width / 2, f.top + f.height / 2, "nothing measured", "class=\"t\" text-anchor=\"middle\"");
  return out + references(f, panel) + end_labels(f, panel, smooth);
}

std::string legend(const std::vector<Curve>& curves, double x, double y) {
  std::string out;
  for (size_t i = 0; i < curves.size(); ++i) {
    out += fmt::format("<path d=\"M{:.1f} {:.1f}h22\" stroke=\"{}\" stroke-width=\"3\" stroke-linecap=\"round\"/>\n", x,
                       y - 4, colour(i));
    out += text(x + 30, y, curves[i].name, "class=\"l\"");
    size_t letters = 0;  // not bytes: a continuation byte of UTF-8 begins with the bits 10
    for (char c : curves[i].name) letters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    x += 58 + 7.2 * double(letters);
  }
  return out;
}

}  // namespace

std::vector<double> nice_ticks(double low, double high, int count) {
  if (!(high > low) || count < 1 || !std::isfinite(high - low)) return {};
  const double raw = (high - low) / count, power = std::pow(10, std::floor(std::log10(raw)));
  const double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; ++i)
    ticks.push_back(i == 0 ? 0 : i * step);  // not −0
  return ticks;
}

std::vector<double> running_mean(const std::vector<double>& y, int width) {
  const int64_t n = int64_t(y.size()), half = width / 2;
  std::vector<double> sums(size_t(n + 1), 0), counts(size_t(n + 1), 0);  // of what is finite, up to each place
  for (int64_t i = 0; i < n; ++i) {
    const bool finite = std::isfinite(y[size_t(i)]);
    sums[size_t(i + 1)] = sums[size_t(i)] + (finite ? y[size_t(i)] : 0);
    counts[size_t(i + 1)] = counts[size_t(i)] + (finite ? 1 : 0);
  }
  std::vector<double> mean(y.size(), std::numeric_limits<double>::quiet_NaN());
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(y[size_t(i)])) continue;
    const size_t from = size_t(std::max<int64_t>(0, i - half)), to = size_t(std::min(n, i + half + 1));
    mean[size_t(i)] = (sums[to] - sums[from]) / (counts[to] - counts[from]);
  }
  return mean;
}

std::string curves_svg(const std::string& title, const std::vector<CurvePanel>& panels) {
  const double width = std::max<double>(1, double(panels.size())) * (kPanelWidth + kGap),
               height = kTop + kPanelHeight + kBottom;
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:g} {1:g}\" width=\"{0:g}\" height=\"{1:g}\" "
      "font-family=\"Helvetica, Arial, 'Liberation Sans', sans-serif\">\n"
      "<style>.h{{font-size:14px;font-weight:600;fill:#333}} .t{{font-size:12px;fill:#666}} "
      ".r{{font-size:11.5px;fill:#555;"
      "paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}} "
      ".l{{font-size:13px;fill:#333}} .e{{font-size:13px;font-weight:600}} .grid{{stroke:#e6e6ea;stroke-width:1}} "
      ".ref{{stroke:#777;stroke-width:1.2;stroke-dasharray:5 4;fill:none}}</style>\n"
      "<rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#fff\"/>\n",
      width, height);
  out += text(kLeft, 32, title, "font-size=\"18\" font-weight=\"700\" fill=\"#222\"");
  if (!panels.empty()) out += legend(panels[0].curves, kLeft, 58);
  for (size_t i = 0; i < panels.size(); ++i) out += draw_panel(panels[i], kGap / 2 + double(i) * (kPanelWidth + kGap));
  return out + "</svg>\n";
}

}  // namespace lem
