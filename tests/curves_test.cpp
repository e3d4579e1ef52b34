#include "tasks/common/curves.h"

#include <cmath>
#include <map>
#include <regex>

#include "tasks/common/chart.h"
#include "tensor/io/files.h"
#include "tensor/random.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;
using Catch::Contains;

namespace {

/// What is wrong with a piece of XML: tags that don't match, text that isn't escaped, attributes without quotes. "" if
/// nothing is.
std::string xml_fault(const std::string& xml) {
  std::vector<std::string> open;
  static const std::regex kTag(R"(^<(/?)([a-zA-Z]+)((?: [a-zA-Z0-9:-]+=(?:"[^"<]*"|'[^'<]*'))*)\s*(/?)>)");
  static const std::regex kEntity(R"(^&(amp|lt|gt|quot|#39);)");
  const size_t declaration = xml.find("?>");
  if (!xml.starts_with("<?xml ") || declaration == std::string::npos) return "no declaration";
  for (size_t i = declaration + 2; i < xml.size();) {
    std::smatch match;
    const auto begin = xml.begin() + int64_t(i);
    if (xml[i] == '<') {
      const std::string tag(begin, std::find(begin, xml.end(), '>') + 1);
      if (!std::regex_search(tag, match, kTag)) return "bad tag: " + tag;
      if (match[1].length() > 0) {
        if (open.empty() || open.back() != match[2]) return "unexpected end of " + match[2].str();
        open.pop_back();
      } else if (match[4].length() == 0) {
        open.push_back(match[2]);
      }
      i += tag.size();
    } else if (xml[i] == '&') {
      const std::string rest(begin, begin + std::min<int64_t>(8, xml.end() - begin));
      if (!std::regex_search(rest, match, kEntity)) return "bare & before " + rest;
      i += size_t(match.length());
    } else {
      if (xml[i] == '>' || (static_cast<unsigned char>(xml[i]) < 0x20 && xml[i] != '\n')) return "bare character";
      ++i;
    }
  }
  return open.empty() ? "" : "no end of " + open.back();
}

Curve noisy(const std::string& label, int n, double level) {
  Curve curve{label, {}, {}};
  const Stream stream{1, 2};
  for (int i = 0; i < n; ++i) curve.x.push_back(i), curve.y.push_back(level + .1 * stream.uniform(i));
  return curve;
}

int64_t count(const std::string& text, const std::string& what) {
  int64_t n = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
  return n;
}

}  // namespace

TEST_CASE("the check for well-formed XML sees faults", "[curves]") {
  const std::string head = "<?xml version=\"1.0\"?>\n";
  CHECK(xml_fault(head + "<a b=\"c\"><d/>&amp;</a>") == "");
  CHECK(xml_fault("<a/>") != "");
  CHECK(xml_fault(head + "<a>") != "");
  CHECK(xml_fault(head + "<a></b>") != "");
  CHECK(xml_fault(head + "<a b=c/>") != "");
  CHECK(xml_fault(head + "<a>x & y</a>") != "");
  CHECK(xml_fault(head + "<a>\x01</a>") != "");
}

TEST_CASE("curves are well-formed SVG that needs nothing from elsewhere", "[curves]") {
  const Panel loss{.title = "Loss", .curves = {noisy("∞-former", 500, 1), noisy("Transformer-XL", 500, 2)}};
  const Panel accuracy{.title = "Accuracy",
                       .curves = {noisy("∞-former", 30, .7), noisy("Transformer-XL", 30, .4)},
                       .levels = {{"all tokens", .98}, {"visible tokens", .54}},
                       .percent = true};
  const std::string svg = curves_svg("Sorting", {loss, accuracy});
  CHECK(xml_fault(svg) == "");
  for (const std::string text : {">Sorting<", ">Loss<", ">Accuracy<", ">∞-former<", ">Transformer-XL<", ">all tokens<",
                                 ">visible tokens<", ">100%<", ">400<", ">step<", "viewBox=\"0 0 900 "})
    CHECK_THAT(svg, Contains(text));
  CHECK(count(svg, ">∞-former<") == 1);               // once in the legend, not once a panel
  CHECK(count(svg, "stroke-dasharray") == 4);         // each level's line and its sample in the key
  CHECK(count(svg, "stroke-opacity=\"0.28\"") == 2);  // raw lines: of the long curves only
  CHECK(count(svg, "http") == 1);                     // the name space
  CHECK(count(svg, "href") == 0);
  CHECK(count(svg, "nan") + count(svg, "inf") == 0);
}

TEST_CASE("every text stays inside the picture, and a level's name clear of the curves", "[curves]") {
  const std::string name = "counting what short-term memory holds, and a good deal more than that, to be long";
  const std::string level = "a level " + name, axis = "the axis " + name;
  for (const bool two : {false, true}) {
    std::vector<Panel> panels(two ? 2 : 1, {.title = name,
                                            .x_label = axis,
                                            .curves = {noisy(name + name, 500, .5), noisy("short", 40, 1)},
                                            .levels = {{level, .54}, {"near", .55}},
                                            .percent = true});
    const std::string svg = curves_svg(name + name, panels);
    static const std::regex kText(
        "<text x=\"([\\d.-]+)\" y=\"([\\d.-]+)\" font-size=\"([\\d.]+)\"[^>]*text-anchor=\"(\\w+)\"[^>]*>([^<]*)<");
    std::map<std::string, double> height;  // y of each text, the lowest
    for (std::sregex_iterator at(svg.begin(), svg.end(), kText), end; at != end; ++at) {
      const std::string text = (*at)[5], anchor = (*at)[4];
      const double x = std::stod((*at)[1]), width = .56 * std::stod((*at)[3]) * double(text.size());
      const double left = anchor == "start" ? x : anchor == "middle" ? x - width / 2 : x - width;
      CAPTURE(text);
      CHECK(left >= 0);
      CHECK(left + width <= 900);
      height[text] = std::max(height[text], std::stod((*at)[2]));
    }
    REQUIRE(height.count(level) == 1);
    CHECK(height[level] > height[axis]);
    CHECK(height["near"] > height[level]);
    std::smatch size;
    REQUIRE(std::regex_search(svg, size, std::regex("viewBox=\"0 0 900 ([\\d.]+)\"")));
    CHECK(height["near"] + 5 < std::stod(size[1]));
  }
}

TEST_CASE("strange text cannot break the file", "[curves]") {
  const std::string strange = "<script>&\"'\x01\x7f\xff\xe2\x88 ]]>";
  const std::string svg = curves_svg(
      strange, {{.title = strange, .x_label = strange, .curves = {noisy(strange, 3, 1)}, .levels = {{strange, 1}}}});
  CHECK(xml_fault(svg) == "");
  CHECK(count(svg, "&lt;script&gt;&amp;&quot;&#39;  ??") >= 4);
}

TEST_CASE("data that is missing, alone, constant or not finite", "[curves]") {
  const double nan = NAN, inf = INFINITY;
  for (const Panel& panel : std::vector<Panel>{
           {.title = "no curves"},
           {.title = "empty", .curves = {{"a", {}, {}}}},
           {.title = "one point", .curves = {{"a", {5}, {2}}}},
           {.title = "one point at zero", .curves = {{"a", {0}, {0}}}},
           {.title = "all NaN", .curves = {{"a", {1, 2}, {nan, nan}}}},
           {.title = "NaN x", .curves = {{"a", {nan, 2}, {1, 2}}}},
           {.title = "some infinite", .curves = {{"a", {1, 2, 3}, {inf, 2, -inf}}}},
           {.title = "constant", .curves = {{"a", {1, 2, 3}, {7, 7, 7}}}},
           {.title = "same x", .curves = {{"a", {1, 1, 1}, {7, 8, 9}}}},
           {.title = "tiny", .curves = {{"a", {1, 2}, {1e-300, 2e-300}}}},
           {.title = "huge", .curves = {{"a", {1, 2}, {-1e300, 1e300}}}},
           {.title = "beyond", .curves = {{"a", {1, 2}, {-1.7e308, 1.7e308}}}},
           {.title = "x beyond", .curves = {{"a", {-1.7e308, 1.7e308}, {1, 2}}}},
           {.title = "NaN level", .curves = {{"a", {1, 2}, {1, 2}}}, .levels = {{"l", nan}, {"m", inf}}},
           {.title = "level only", .levels = {{"l", .5}}, .percent = true},
       }) {
    INFO(panel.title);
    const std::string svg = curves_svg("t", {panel, panel, panel});
    CHECK(xml_fault(svg) == "");
    CHECK(count(svg, "nan") + count(svg, "inf\"") + count(svg, "inf,") == 0);
  }
  CHECK(xml_fault(curves_svg("", {})) == "");
  CHECK_THAT(curves_svg("t", {{.title = "p"}}), Contains("no data yet"));
  CHECK_THAT(error_of([] {
               curves_svg("t", {{.title = "p", .curves = {{"a", {1, 2}, {1}}}}});
             }),
             Contains("[curves] a: got 2 values of x and 1 of y"));
}

TEST_CASE("a long run makes a small file, and a gap stays a gap", "[curves]") {
  CHECK(curves_svg("t", {{.title = "p", .curves = {noisy("a", 100000, 1)}}}).size() < 100000);
  const std::string svg = curves_svg("t", {{.title = "p", .curves = {{"a", {1, 2, 3, 4}, {1, NAN, 2, 3}}}}});
  CHECK_THAT(svg, Contains("<path d=\"M"));
  std::smatch path;
  REQUIRE(std::regex_search(svg, path, std::regex("<path d=\"([^\"]*)\" stroke")));
  CHECK(count(path[1], "M") == 2);
  CHECK(count(path[1], "L") == 1);
}

TEST_CASE("curves are written whole", "[curves]") {
  const ScratchFolder folder;
  write_curves_svg(folder / "c.svg", "t", {{.title = "p"}});
  CHECK(read_text(folder / "c.svg") == curves_svg("t", {{.title = "p"}}));
  CHECK_THAT(error_of([&] { write_curves_svg(folder / "none/c.svg", "t", {}); }), Contains("No such file"));
}

TEST_CASE("ticks are round numbers inside the range", "[curves]") {
  CHECK(nice_ticks({0, 1}, 5) == std::vector<double>{0, .2, 2 * .2, 3 * .2, .8, 1});
  CHECK(nice_ticks({0, 1000}, 4) == std::vector<double>{0, 200, 400, 600, 800, 1000});
  CHECK(nice_ticks({-3, 3}, 3) == std::vector<double>{-2, 0, 2});
  CHECK(nice_ticks({2, 2}, 5) == std::vector<double>{2});
  CHECK(tick_text(.25, .05, false) == "0.25");
  CHECK(tick_text(.25, .05, true) == "25%");
  CHECK(tick_text(.125, .005, true) == "12.5%");
  CHECK(tick_text(15000, 5000, false) == "15k");
  CHECK(tick_text(500, 500, false) == "500");
  CHECK(tick_text(0, 5000, false) == "0");
  CHECK(tick_text(-0.0, .5, false) == "0.0");
  CHECK(tick_text(2.5, .5, false) == "2.5");
  CHECK(widen_to_ticks({.61, 2.31}, 5).low == Approx(.6));
  CHECK(widen_to_ticks({.61, 2.31}, 5).high == Approx(2.4));
  CHECK(widen_to_ticks({1, 0}, 5).span() == 1);  // nothing there
  CHECK(widen_to_ticks({3, 3}, 5).span() > 0);
  CHECK(widen_to_ticks({0, 0}, 5).span() > 0);
}

TEST_CASE("smoothing keeps lines straight, ends honest and gaps open", "[curves]") {
  std::vector<double> line, flat(50, 3.0);
  for (int i = 0; i < 50; ++i) line.push_back(2.0 * i);
  const std::vector<double> smoothed = smooth(line, 5);
  for (int i = 0; i < 45; ++i) CHECK(std::abs(smoothed[i] - line[i]) <= 1e-9);  // symmetric windows
  CHECK(smoothed[49] < line[49]);                                               // the last looks back only
  CHECK(smoothed[49] > line[44]);
  for (const double y : smooth(flat, 7)) CHECK(std::abs(y - 3) <= 1e-12);
  flat[20] = NAN;
  CHECK(std::isnan(smooth(flat, 7)[20]));
  CHECK(std::abs(smooth(flat, 7)[21] - 3) <= 1e-12);
  CHECK(smooth({}, 3).empty());
  CHECK(smooth({1, 5}, 0) == std::vector<double>{1, 5});
}

TEST_CASE("thinning keeps the extremes", "[curves]") {
  Points points;
  for (int i = 0; i < 10000; ++i) points.x.push_back(i), points.y.push_back(i == 5003 ? 9 : i == 5004 ? -9 : 0);
  const Points thinned = thin(points, 100);
  CHECK(thinned.x.size() <= 200);
  CHECK(std::find(thinned.y.begin(), thinned.y.end(), 9) != thinned.y.end());
  CHECK(std::find(thinned.y.begin(), thinned.y.end(), -9) != thinned.y.end());
  CHECK(std::is_sorted(thinned.x.begin(), thinned.x.end()));
  for (double& y : points.y) y = NAN;
  for (const double y : thin(points, 100).y) CHECK(std::isnan(y));
  const Range most = bulk({5, 1, NAN, 2, 3, 4, 1000, 2, 3, 3, 3}, .1);
  CHECK(most.low == 2);
  CHECK(most.high == 5);
  CHECK(bulk({}, .1).low > bulk({}, .1).high);
}
