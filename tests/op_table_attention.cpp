// The table's entries of relative attention (autograd/relative_attention.cpp).
#include "tests/op_table.h"

namespace lem::test {
namespace {

struct Size {
  int64_t B, T, K, H, D;
};

struct Options {
  const char* text;
  int64_t window = 0;
  std::vector<int32_t> first_key{};  // (B) or empty
  real dropout = 0;
};

void add_entry(std::vector<OpCase>& table, const Size& s, const Options& o) {
  const int64_t C = s.H * s.D;
  table.push_back({"relative_attention",
                   o.text,
                   {{"q", {s.B, s.T, C}},
                    {"k", {s.B, s.K, C}},
                    {"v", {s.B, s.K, C}},
                    {"r", {s.K, C}},
                    {"u", {s.H, s.D}},
                    {"w", {s.H, s.D}}},
                   [=](const Arguments& x) {
                     RelativeAttentionOptions options;
                     options.window = o.window;
                     options.dropout = {o.dropout, {31, 32}};
                     if (!o.first_key.empty()) options.first_key = Tokens::from(o.first_key, {s.B}, x[0].device());
                     return relative_attention(x[0], x[1], x[2], x[3], x[4], x[5], options);
                   }});
}

}  // namespace

void add_attention_ops(std::vector<OpCase>& table) {
  const Size small{2, 5, 8, 3, 4};
  add_entry(table, small, {""});
  add_entry(table, small, {"window 3", 3});
  add_entry(table, small, {"first_key 0 2", 0, {0, 2}});
  add_entry(table, small, {"first_key 6 8: some queries see nothing", 0, {6, 8}});
  add_entry(table, small, {"dropout", 0, {}, real(0.3)});
  add_entry(table, small, {"window 2, first_key 5 1, dropout", 2, {5, 1}, real(0.3)});
  for (const Size& s : {Size{1, 1, 1, 1, 1}, {1, 1, 9, 1, 3}, {1, 31, 31, 1, 5}, {1, 7, 33, 5, 1}, {2, 33, 64, 2, 7}})
    add_entry(table, s, {""});
  // Past one tile of queries and one tile of keys.
  add_entry(table, {1, 70, 600, 1, 3}, {""});
  add_entry(table, {1, 70, 600, 1, 3}, {"window 40, first_key 521, dropout", 40, {521}, real(0.2)});
  add_entry(table, {1, 257, 257, 1, 2}, {"window 33", 33});
}

}  // namespace lem::test
