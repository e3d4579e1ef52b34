// The table's matrix products (autograd/linear.cpp).
#include "tests/op_table.h"

namespace lem::test {
namespace {

struct Size {
  Shape x;
  int64_t out;
};

}  // namespace

void add_linear_ops(std::vector<OpCase>& table) {
  for (const auto& [s, out] : {Size{{2, 5, 31}, 3},
                               {{1, 1}, 1},
                               {{33, 7}, 31},
                               {{3, 257}, 2},
                               {{0, 4}, 3},
                               {{3, 0}, 4},
                               {{2, 3}, 0},
                               {{5}, 3}}) {
    table.push_back(
        {"linear", "", {{"x", s}, {"W", {s[-1], out}}}, [](const Arguments& x) { return linear(x[0], x[1]); }});
    table.push_back({"linear", "transposed", {{"x", s}, {"W", {out, s[-1]}}}, [](const Arguments& x) {
                       return linear(x[0], x[1], true);
                     }});
    table.push_back(
        {"linear_sum", "", {{"x0", s}, {"W0", {s[-1], out}}, {"x1", s}, {"W1", {s[-1], out}}}, [](const Arguments& x) {
           return linear_sum({{x[0], x[1]}, {x[2], x[3]}});
         }});
  }
  table.push_back(
      {"linear", "a value with itself", {{"x", {3, 3}}}, [](const Arguments& x) { return linear(x[0], x[0]); }});
  table.push_back({"linear_sum", "one term", {{"x", {3, 5}}, {"W", {5, 2}}}, [](const Arguments& x) {
                     return linear_sum({{x[0], x[1]}});
                   }});
  table.push_back({"linear_sum",
                   "one x, inner sizes differ",
                   {{"x", {2, 3, 5}}, {"W0", {5, 4}}, {"x1", {2, 3, 33}}, {"W1", {33, 4}}},
                   [](const Arguments& x) {
                     return linear_sum({{x[0], x[1]}, {x[2], x[3]}});
                   }});
  table.push_back(
      {"linear_sum", "one x twice", {{"x", {3, 5}}, {"W0", {5, 4}}, {"W1", {5, 4}}}, [](const Arguments& x) {
         return linear_sum({{x[0], x[1]}, {x[0], x[2]}});
       }});

  struct Concat {
    int64_t B, S, T, in, out;
  };
  for (const auto& [B, S, T, in, out] :
       {Concat{2, 3, 5, 7, 31}, {1, 1, 1, 1, 1}, {3, 33, 1, 4, 2}, {2, 3, 0, 3, 4}, {0, 2, 3, 3, 4}})
    table.push_back(
        {"concat_linear", "", {{"past", {B, S, in}}, {"x", {B, T, in}}, {"W", {in, out}}}, [](const Arguments& x) {
           return concat_linear(x[0], x[1], x[2]);
         }});
  table.push_back({"concat_linear", "no past", {{"x", {2, 3, 5}}, {"W", {5, 4}}}, [](const Arguments& x) {
                     return concat_linear({}, x[0], x[1]);
                   }});
  table.push_back({"concat_linear", "a past of no steps", {{"x", {2, 3, 5}}, {"W", {5, 4}}}, [](const Arguments& x) {
                     return concat_linear(zeros({2, 0, 5}, x[0].device()), x[0], x[1]);
                   }});

  struct Mix {
    int64_t B, n, m, C;
  };
  for (const auto& [B, n, m, C] : {Mix{2, 5, 31, 3}, {1, 1, 1, 1}, {3, 33, 4, 5}, {2, 3, 4, 0}, {0, 3, 4, 5}})
    for (bool transposed : {false, true})
      for (bool per_row : {false, true}) {
        const Shape M = per_row ? Shape{B, n, m} : Shape{n, m};
        table.push_back({"mix",
                         fmt::format("{}{}", per_row ? "M per row" : "one M", transposed ? ", transposed" : ""),
                         {{"M", M}, {"x", {B, transposed ? n : m, C}}},
                         [=](const Arguments& x) { return mix(x[0], x[1], transposed); }});
      }

  struct Heads {
    int64_t B, P, H, C, D;
  };
  for (const auto& [B, P, H, C, D] :
       {Heads{2, 2, 3, 31, 5}, {1, 1, 1, 1, 1}, {1, 3, 1, 4, 33}, {3, 1, 5, 2, 1}, {0, 2, 3, 4, 5}})
    table.push_back({"head_linear",
                     fmt::format("H = {}", H),
                     {{"x", {B, P * H, C}}, {"W", {C, H * D}}},
                     [H = H](const Arguments& x) { return head_linear(x[0], x[1], H); }});

  for (const Shape& s : {Shape{2, 5, 7}, {1, 1, 1}, {2, 2, 3}, {3, 1, 4}, {1, 33, 4}, {2, 0, 3}, {0, 3, 2}}) {
    const int64_t C = s[2];
    table.push_back({"time_conv", "", {{"x", s}, {"W", {3, C, C}}, {"bias", {C}}}, [](const Arguments& x) {
                       return time_conv(x[0], x[1], x[2]);
                     }});
  }
}

}  // namespace lem::test
