#include "tests/op_table.h"

#include <cmath>

namespace lem::test {

double standard_normal(const Stream& s, uint64_t i) { return s.normal(i); }

double off_zero(const Stream& s, uint64_t i) {
  const double x = s.normal(i);
  return x < 0 ? x - 0.2 : x + 0.2;
}

Draw between(double low, double high) {
  return [=](const Stream& s, uint64_t i) { return low + (high - low) * s.uniform(i); };
}

std::string OpCase::label() const {
  std::string text = options.empty() ? op : fmt::format("{} [{}]", op, options);
  for (const Input& input : inputs)
    text += fmt::format("{} {} {}", &input == &inputs[0] ? "" : ",", input.name, input.shape.str());
  return text;
}

std::vector<Tensor> make_inputs(const OpCase& c, Device device) {
  uint64_t seed = 14695981039346656037u;  // FNV-1a of the label: an entry keeps its numbers when others come
  for (char letter : c.label()) seed = (seed ^ uint8_t(letter)) * 1099511628211u;
  std::vector<Tensor> values;
  for (const Input& input : c.inputs) {
    const Stream stream{seed, values.size()};
    std::vector<real> x(static_cast<size_t>(input.shape.numel()));
    for (size_t i = 0; i < x.size(); ++i) x[i] = real(input.draw(stream, i));
    values.push_back(Tensor::from(x, input.shape, device));
  }
  return values;
}

const std::vector<OpCase>& op_table() {
  static const std::vector<OpCase> table = [] {
    std::vector<OpCase> all;
    add_elementwise_ops(all);
    add_row_ops(all);
    add_linear_ops(all);
    add_attention_ops(all);
    add_continuous_ops(all);
    return all;
  }();
  return table;
}

// ---- elementwise

void add_elementwise_ops(std::vector<OpCase>& table) {
  for (const Shape& s : {Shape{1}, {31}, {3, 33}, {257}, {2, 3, 5}, {0, 4}}) {
    table.push_back({"add", "", {{"a", s}, {"b", s}}, [](const Arguments& x) { return add(x[0], x[1]); }});
    table.push_back({"scale", "-1.5", {{"x", s}}, [](const Arguments& x) { return scale(x[0], real(-1.5)); }});
    table.push_back(
        {"sigmoid_gate", "", {{"x", s}, {"g", s}}, [](const Arguments& x) { return sigmoid_gate(x[0], x[1]); }});
    table.push_back({"weighted_sum", "", {{"x", s}}, [s](const Arguments& x) {
                       std::vector<real> w(static_cast<size_t>(s.numel()));
                       for (size_t i = 0; i < w.size(); ++i) w[i] = real(Stream{3, 4}.normal(i));
                       return weighted_sum(x[0], Tensor::from(w, s, x[0].device()));
                     }});
  }
  table.push_back({"add", "a value to itself", {{"x", {2, 5}}}, [](const Arguments& x) { return add(x[0], x[0]); }});
  table.push_back({"sigmoid_gate", "a value by itself", {{"x", {2, 5}}}, [](const Arguments& x) {
                     return sigmoid_gate(x[0], x[0]);
                   }});
  table.push_back({"reshape", "", {{"x", {2, 3, 5}}}, [](const Arguments& x) { return reshape(x[0], {5, 6}); }});
  table.push_back({"reshape", "beside another use", {{"x", {4, 3}}}, [](const Arguments& x) {
                     const Variable y = scale(x[0], 3);
                     return add(reshape(y, {12}), reshape(sigmoid_gate(y, y), {12}));
                   }});
  for (int64_t n : {0, 1, 3, 5})
    table.push_back({"last_steps", fmt::format("n = {}", n), {{"x", {2, 5, 7}}}, [n](const Arguments& x) {
                       return last_steps(x[0], n);
                     }});
  table.push_back({"last_steps", "beside another use", {{"x", {1, 4, 3}}}, [](const Arguments& x) {
                     return add(last_steps(scale(x[0], 2), 2), last_steps(x[0], 2));
                   }});

  // 257 rows cross a block of the reduction over rows, 1031 columns a chunk of the dropout mask.
  const std::pair<Activation, const char*> activations[] = {
      {Activation::identity, "identity"}, {Activation::relu, "relu"}, {Activation::gelu, "gelu"}};
  for (const auto& [act, name] : activations)
    for (const Shape& s : {Shape{1, 1}, {3, 31}, {257, 3}, {2, 3, 33}, {2, 1031}, {0, 5}})
      for (real p : {real(0), real(0.3)}) {
        const Dropout d{p, {5, 6}, 7};
        const std::string options = fmt::format("{}{}", name, p > 0 ? ", dropout" : "");
        table.push_back({"bias_act", options, {{"x", s, off_zero}}, [act = act, d](const Arguments& x) {
                           return bias_act(x[0], {}, act, d);
                         }});
        table.push_back({"bias_act",
                         options,
                         {{"x", s, off_zero}, {"bias", {s[-1]}, between(-0.15, 0.15)}},
                         [act = act, d](const Arguments& x) { return bias_act(x[0], x[1], act, d); }});
      }
  for (real p : {real(0), real(0.5)})
    table.push_back({"dropout", fmt::format("p = {}", p), {{"x", {3, 33}}}, [p](const Arguments& x) {
                       return dropout(x[0], {p, {8, 9}});
                     }});
}

// ---- operations on rows

namespace {

void add_layer_norm(std::vector<OpCase>& table, const Shape& s, bool with_z, bool with_bias, real p) {
  const Shape cols{s[-1]};
  std::vector<Input> inputs = {{"x", s}, {"gamma", cols}, {"beta", cols}};
  if (with_z) inputs.push_back({"z", s});
  if (with_bias) inputs.push_back({"z_bias", cols});
  table.push_back(
      {"layer_norm", p > 0 ? "dropout" : "", inputs, [=](const Arguments& x) {
         return layer_norm(x[0], with_z ? x[3] : Variable(), with_bias ? x[4] : Variable(), x[1], x[2], {p, {11, 12}});
       }});
}

void add_cross_entropy(std::vector<OpCase>& table, const Shape& s, int ignored_of_three, real factor) {
  std::vector<int32_t> targets;
  const int64_t rows = s.numel() / s[-1];
  for (int64_t i = 0; i < rows; ++i) targets.push_back(i % 3 < ignored_of_three ? -1 : int32_t(i * 7 % s[-1]));
  table.push_back(
      {"cross_entropy",
       fmt::format("scale {}, ignoring {} rows of 3", factor, ignored_of_three),
       {{"logits", s}},
       [=](const Arguments& x) { return cross_entropy(x[0], Tokens::from(targets, {rows}, x[0].device()), factor); }});
}

void add_embedding(std::vector<OpCase>& table, int64_t V, int64_t C, const Shape& shape) {
  std::vector<int32_t> tokens;  // tokens repeat, and some of the vocabulary never comes
  for (int64_t i = 0; i < shape.numel(); ++i) tokens.push_back(int32_t(i * i % V));
  table.push_back({"embedding", "tokens " + shape.str(), {{"table", {V, C}}}, [=](const Arguments& x) {
                     return embedding(Tokens::from(tokens, shape, x[0].device()), x[0], real(1.7));
                   }});
}

}  // namespace

void add_row_ops(std::vector<OpCase>& table) {
  const auto apply_softmax = [](const Arguments& x) { return softmax(x[0]); };
  for (const Shape& s : {Shape{3, 31}, {1, 1}, {5, 1}, {2, 257}, {2, 3, 33}, {0, 4}})
    table.push_back({"softmax", "", {{"x", s}}, apply_softmax});
  table.push_back({"softmax", "large values", {{"x", {3, 5}, between(500, 503)}}, apply_softmax});

  add_cross_entropy(table, {7, 31}, 1, real(0.25));
  add_cross_entropy(table, {5, 257}, 0, 1);
  add_cross_entropy(table, {2, 3, 9}, 2, real(-2));
  add_cross_entropy(table, {3, 1}, 0, 1);
  add_cross_entropy(table, {4, 5}, 3, 1);
  add_cross_entropy(table, {0, 5}, 0, 1);

  add_layer_norm(table, {2, 3, 31}, true, true, real(0.2));
  for (const Shape& s : {Shape{3, 31}, {1, 2}, {257, 5}, {2, 3, 33}, {2, 1031}, {0, 5}}) {
    add_layer_norm(table, s, false, false, 0);
    add_layer_norm(table, s, true, false, 0);
    add_layer_norm(table, s, true, true, 0);
    add_layer_norm(table, s, true, false, real(0.2));
    add_layer_norm(table, s, true, true, real(0.2));
  }
  add_layer_norm(table, {5, 1}, true, true, 0);

  add_embedding(table, 7, 31, {2, 5});
  add_embedding(table, 1, 1, {1});
  add_embedding(table, 257, 3, {33});
  add_embedding(table, 5, 4, {0, 3});
}

}  // namespace lem::test
