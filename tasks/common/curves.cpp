#include "tasks/common/curves.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>

#include "tasks/common/chart.h"
#include "tensor/error.h"
#include "tensor/io/files.h"

namespace lem {
namespace {

constexpr double kWidth = 900, kMargin = 28, kHeader = 96, kLegendTop = 74, kPanelHeight = 350, kColumnGap = 34;
constexpr double kLeft = 54, kRight = 56, kTop = 36, kBottom = 58;  // of a panel, around its plot
constexpr double kSmallText = 16, kText = 17, kTitle = 24;
constexpr double kKeyLeft = 36, kKeyRow = 24;  // of what says which line is which: a line's sample, then its name
constexpr size_t kFewPoints = 60;

// Okabe & Ito's colours, which people with every kind of colour vision tell apart; darkest first.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#b0578f", "#8a6d00", "#56b4e9"};
constexpr const char* kDashes[] = {"7 5", "2 4", "12 4 2 4", "12 8"};  // of levels, in a panel's order
constexpr const char *kInk = "#1f2328", *kSoftInk = "#57606a", *kGrid = "#e6e8eb", *kAxis = "#9aa1a9";

struct Box {
  double left, top, right, bottom;
  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

/// A text's width, near enough to keep texts apart.
double text_width(const std::string& text, double size) {
  const auto letters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return 0.54 * size * double(letters);
}

/// The size, at most `size`, at which a text (bold, to be safe) is no wider than `room`.
double fitting(const std::string& text, double size, double room) {
  return std::min(size, size * room / (1.1 * text_width(text, size) + 1));
}

/// Text for XML: the five special characters escaped, control characters blanked, broken UTF-8 questioned.
std::string escape(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = text[i];
    const size_t follow = c < 0x80                ? 0
                          : c >= 0xC2 && c < 0xE0 ? 1
                          : c >= 0xE0 && c < 0xF0 ? 2
                          : c >= 0xF0 && c < 0xF5 ? 3
                                                  : 9;
    bool whole = i + follow < text.size();
    for (size_t k = 1; whole && k <= follow; ++k) whole = (text[i + k] & 0xC0) == 0x80;
    if (!whole)
      out += '?';
    else if (follow > 0)
      out.append(text, i, follow + 1), i += follow;
    else if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\'')
      out += "&#39;";
    else
      out += c < 0x20 || c == 0x7F ? ' ' : char(c);
  }
  return out;
}

class Svg {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
    text_ += '\n';
  }
  /// Text with its baseline at y; anchor: start | middle | end. `halo` keeps it legible on top of lines.
  void label(double x, double y, double size, const char* colour, const char* anchor, const std::string& text,
             bool bold = false, bool halo = false) {
    add(R"(<text x="{:.1f}" y="{:.1f}" font-size="{:.3g}" fill="{}" text-anchor="{}"{}{}>{}</text>)", x, y, size,
        colour, anchor, bold ? R"( font-weight="600")" : "",
        halo ? R"( stroke="#ffffff" stroke-width="4" stroke-linejoin="round" paint-order="stroke")" : "", escape(text));
  }
  void line(double x1, double y1, double x2, double y2, const char* colour, const std::string& more = "") {
    add(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}"{}/>)", x1, y1, x2, y2, colour, more);
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

/// Which colour each label has, in order of first appearance.
std::map<std::string, size_t> number_labels(const std::vector<Panel>& panels, std::vector<std::string>& labels) {
  std::map<std::string, size_t> numbers;
  for (const Panel& panel : panels)
    for (const Curve& curve : panel.curves)
      if (numbers.emplace(curve.label, labels.size()).second) labels.push_back(curve.label);
  return numbers;
}

const char* colour_of(size_t number) { return kColours[number % std::size(kColours)]; }

/// A dot whose shape tells curves apart where colour cannot.
void draw_marker(Svg& svg, double x, double y, double r, size_t number) {
  const char* colour = colour_of(number);
  const char* common = R"(stroke="#ffffff" stroke-width="1.5")";
  if (number % 3 == 0) svg.add(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" {}/>)", x, y, r, colour, common);
  if (number % 3 == 1)
    svg.add(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" {}/>)", x - .9 * r, y - .9 * r,
            1.8 * r, 1.8 * r, colour, common);
  if (number % 3 == 2)
    svg.add(R"(<path d="M{:.1f},{:.1f}l{:.1f},{:.1f}h{:.1f}z" fill="{}" {}/>)", x, y - 1.2 * r, 1.2 * r, 2.1 * r,
            -2.4 * r, colour, common);
}

struct Place {
  double x, y;
};

/// Where the legend's entries begin: side by side, in as many rows as they need.
std::vector<Place> place_legend(const std::vector<std::string>& labels) {
  std::vector<Place> places;
  Place next{kMargin, kLegendTop};
  for (const std::string& label : labels) {
    const double width = kKeyLeft + 1.08 * text_width(label, kText);
    if (next.x > kMargin && next.x + width > kWidth - kMargin) next = {kMargin, next.y + 26};
    places.push_back(next);
    next.x += width + 26;
  }
  return places;
}

/// One panel being drawn: its scales and what has been placed on it.
class Plot {
 public:
  Plot(Svg& svg, const Panel& panel, const Box& box, int number, const std::map<std::string, size_t>& colours)
      : svg_(svg), panel_(panel), box_(box), number_(number), colours_(colours) {
    for (const Curve& curve : panel.curves) prepare(curve);
    for (const Level& level : panel.levels)
      if (std::isfinite(level.y)) levels_.push_back(level);
    set_ranges();
  }

  void draw() {
    svg_.label(box_.left, box_.top - 16, fitting(panel_.title, kText, box_.width() + kRight), kInk, "start",
               panel_.title, true);
    draw_axes();
    svg_.add(R"(<clipPath id="plot{}"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/></clipPath>)",
             number_, box_.left, box_.top - 2, box_.width() + 1, box_.height() + 3);
    svg_.add(R"(<g clip-path='url(#plot{})' fill="none" stroke-linejoin="round" stroke-linecap="round">)", number_);
    for (const Drawn& d : drawn_)
      if (d.smoothed) path(d.raw, colour_of(d.number), R"( stroke-width="1" stroke-opacity="0.28")");
    for (size_t i = 0; i < levels_.size(); ++i) dashed(box_.left, box_.right, y(levels_[i].y), i);
    for (const Drawn& d : drawn_) path(d.line, colour_of(d.number), R"( stroke-width="2.6")");
    svg_.add("</g>");
    for (const Drawn& d : drawn_)
      if (!d.smoothed)
        for (size_t i = 0; i < d.line.x.size(); ++i)
          if (std::isfinite(d.line.y[i])) draw_marker(svg_, x(d.line.x[i]), y(d.line.y[i]), 3.5, d.number);
    draw_ends();
    draw_key();
    if (empty_)
      svg_.label((box_.left + box_.right) / 2, (box_.top + box_.bottom) / 2, kText, kSoftInk, "middle", "no data yet",
                 false, true);
  }

 private:
  struct Drawn {
    size_t number;  // of its colour
    bool smoothed;
    Points raw, line;  // what is drawn faintly, and strongly
  };

  void prepare(const Curve& curve) {
    check(curve.x.size() == curve.y.size(), "[curves] {}: got {} values of x and {} of y, expected as many",
          curve.label, curve.x.size(), curve.y.size());
    Points raw;
    for (size_t i = 0; i < curve.x.size(); ++i)
      if (std::abs(curve.x[i]) < 1e300) {
        raw.x.push_back(curve.x[i]);
        raw.y.push_back(std::abs(curve.y[i]) < 1e300 ? curve.y[i] : NAN);  // no number is that large
      }
    const bool smoothed = raw.x.size() > kFewPoints;
    const Points line{raw.x, smooth(raw.y, smoothed ? std::min<int64_t>(int64_t(raw.y.size()) / 25, 1000) : 0)};
    const int64_t columns = int64_t(box_.width());
    drawn_.push_back({colours_.at(curve.label), smoothed, thin(raw, columns), thin(line, columns)});
  }

  void set_ranges() {
    Range x_all{INFINITY, -INFINITY}, y_all{INFINITY, -INFINITY};
    const auto include = [](Range& all, Range r) {
      if (r.low <= r.high) all = {std::min(all.low, r.low), std::max(all.high, r.high)};
    };
    for (const Drawn& d : drawn_) {
      include(x_all, bulk(d.line.x, 0));
      include(y_all, bulk(d.line.y, 0));
      include(y_all, bulk(d.raw.y, .01));  // a stray spike may leave the plot
    }
    empty_ = !(y_all.low <= y_all.high);
    for (const Level& level : levels_) include(y_all, {level.y, level.y});
    if (panel_.percent && y_all.low >= 0 && y_all.high <= 1 && y_all.span() > .3) y_all = {0, 1};
    if (y_all.low > 0 && y_all.low < .4 * y_all.high) y_all.low = 0;
    y_range_ = widen_to_ticks(y_all, 5);
    x_range_ = x_all.low < x_all.high ? x_all : widen_to_ticks(x_all, 4);
    if (x_range_.low > 0 && x_range_.low < .1 * x_range_.high) x_range_.low = 0;
  }

  double x(double value) const { return box_.left + (value - x_range_.low) / x_range_.span() * box_.width(); }
  double y(double value) const { return box_.bottom - (value - y_range_.low) / y_range_.span() * box_.height(); }

  void draw_axes() {
    const std::vector<double> y_ticks = nice_ticks(y_range_, 5);
    std::vector<double> x_ticks = nice_ticks(x_range_, 4);
    std::erase_if(x_ticks, [](double tick) { return std::abs(tick - std::round(tick)) > 1e-6; });  // steps are integers
    const auto step = [](const std::vector<double>& ticks) { return ticks.size() > 1 ? ticks[1] - ticks[0] : 1; };
    for (const double tick : y_ticks) {
      svg_.line(box_.left, y(tick), box_.right, y(tick), kGrid);
      svg_.label(box_.left - 9, y(tick) + 5.5, kSmallText, kSoftInk, "end",
                 tick_text(tick, step(y_ticks), panel_.percent));
    }
    for (const double tick : x_ticks) {
      svg_.line(x(tick), box_.bottom, x(tick), box_.bottom + 5, kAxis);
      svg_.label(x(tick), box_.bottom + 22, kSmallText, kSoftInk, "middle", tick_text(tick, step(x_ticks), false));
    }
    svg_.line(box_.left, box_.bottom, box_.right, box_.bottom, kAxis);
    svg_.label((box_.left + box_.right) / 2, box_.bottom + 44, fitting(panel_.x_label, kSmallText, box_.width()),
               kSoftInk, "middle", panel_.x_label);
  }

  void path(const Points& points, const char* colour, const char* more) {
    std::string d;
    bool pen_down = false;
    for (size_t i = 0; i < points.x.size(); ++i) {
      const bool finite = std::isfinite(points.y[i]);
      // Far outside the plot all values look the same; renderers dislike huge coordinates.
      const double py = std::clamp(y(points.y[i]), box_.top - 1000, box_.bottom + 1000);
      if (finite) d += fmt::format("{}{:.1f},{:.1f}", pen_down ? 'L' : 'M', x(points.x[i]), py);
      pen_down = finite;
    }
    if (!d.empty()) svg_.add(R"(<path d="{}" stroke="{}"{}/>)", d, colour, more);
  }

  /// The last value of each curve beside its end; values too close to each other are moved apart.
  void draw_ends() {
    struct End {
      double y, text_y;
      size_t number;
      std::string text;
    };
    std::vector<End> ends;
    for (const Drawn& d : drawn_)
      for (size_t i = d.line.x.size(); i-- > 0;)
        if (std::isfinite(d.line.y[i])) {
          const double at = std::clamp(y(d.line.y[i]), box_.top, box_.bottom), value = d.line.y[i];
          if (d.smoothed) draw_marker(svg_, x(d.line.x[i]), at, 4.5, d.number);
          ends.push_back({at, at, d.number, end_text(value)});
          break;
        }
    std::sort(ends.begin(), ends.end(), [](const End& a, const End& b) { return a.y < b.y; });
    for (int round = 0; round < 50; ++round)
      for (size_t i = 1; i < ends.size(); ++i)
        if (const double lack = kText + 2 - (ends[i].text_y - ends[i - 1].text_y); lack > 0)
          ends[i - 1].text_y -= lack / 2, ends[i].text_y += lack / 2;
    for (const End& end : ends)
      svg_.label(box_.right + 9, end.text_y + 6, kText, colour_of(end.number), "start", end.text, true);
  }

  void dashed(double left, double right, double at, size_t number) {
    svg_.line(left, at, right, at, kSoftInk,
              fmt::format(R"( stroke-width="1.5" stroke-dasharray="{}")", kDashes[number % std::size(kDashes)]));
  }

  /// Which level is which, below the plot: there they cover nothing, however long their names are.
  void draw_key() {
    const double left = box_.left - kLeft, room = box_.right + kRight - left - kKeyLeft;
    for (size_t i = 0; i < levels_.size(); ++i) {
      const double at = box_.bottom + 66 + double(i) * kKeyRow;
      const std::string& label = levels_[i].label;
      dashed(left, left + 27, at, i);
      svg_.label(left + kKeyLeft, at + 5.5, fitting(label, kSmallText, room), kSoftInk, "start", label);
    }
  }

  std::string end_text(double value) const {
    if (panel_.percent) return fmt::format("{:.0f}%", 100 * value);
    if (std::abs(value) >= 1e6) return fmt::format("{:.1e}", value);
    if (std::abs(value) >= 1e4) return fmt::format("{:.1f}k", value / 1000);
    return fmt::format("{:.{}f}", value, std::abs(value) >= 100 ? 0 : 2);
  }

  Svg& svg_;
  const Panel& panel_;
  Box box_;
  int number_;
  const std::map<std::string, size_t>& colours_;
  std::vector<Drawn> drawn_;
  std::vector<Level> levels_;  // the finite ones
  Range x_range_, y_range_;
  bool empty_ = false;
};

}  // namespace

std::string curves_svg(const std::string& title, const std::vector<Panel>& panels) {
  std::vector<std::string> labels;
  const std::map<std::string, size_t> numbers = number_labels(panels, labels);
  const std::vector<Place> legend = place_legend(labels);
  const double header = kHeader + (legend.empty() ? 0 : legend.back().y - kLegendTop);
  const int columns = panels.size() > 1 ? 2 : 1, rows = int(panels.size() + 1) / 2;
  size_t levels = 0;
  for (const Panel& panel : panels) levels = std::max(levels, panel.levels.size());
  const double panel_height = kPanelHeight + double(levels) * kKeyRow, height = header + rows * panel_height + 10;
  Svg svg;
  svg.add(R"(<?xml version="1.0" encoding="UTF-8"?>)");
  svg.add(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:g} {1:g}" width="{0:g}" height="{1:g}" )"
          R"(font-family="Helvetica, Arial, 'DejaVu Sans', sans-serif" role="img">)",
          kWidth, height);
  svg.add("<title>{}</title>", escape(title));
  svg.add(R"(<rect width="{:g}" height="{:g}" rx="10" fill="#ffffff"/>)", kWidth, height);
  const double room = kWidth - 2 * kMargin;
  svg.label(kMargin, 44, fitting(title, kTitle, room), kInk, "start", title, true);
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto [x, y] = legend[i];
    svg.line(x + 1, y, x + 27, y, colour_of(i), R"( stroke-width="3.5" stroke-linecap="round")");
    draw_marker(svg, x + 14, y, 5, i);
    svg.label(x + kKeyLeft, y + 6, fitting(labels[i], kText, room - kKeyLeft), colour_of(i), "start", labels[i], true);
  }

  const double panel_width = (kWidth - 2 * kMargin - (columns - 1) * kColumnGap) / columns;
  for (size_t i = 0; i < panels.size(); ++i) {
    const double left = kMargin + double(int(i) % columns) * (panel_width + kColumnGap);
    const double top = header + double(int(i) / columns) * panel_height;
    const Box box{left + kLeft, top + kTop, left + panel_width - kRight, top + kPanelHeight - kBottom};
    Plot(svg, panels[i], box, int(i), numbers).draw();
  }
  svg.add("</svg>");
  return svg.take();
}

void write_curves_svg(const std::string& path, const std::string& title, const std::vector<Panel>& panels) {
  write_text(path, curves_svg(title, panels));
}

}  // namespace lem
