// The one table of differentiable operations. Each entry is an operation at one size and with one set of options; it
// drives the gradient checks (gradient_test.cpp), and whatever else wants to run every operation.
//
// To cover a new operation, add entries in op_table*.cpp: a test compares the table with autograd/ops.h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/ops.h"

namespace lem::test {

/// Element i of an input, drawn from a stream.
using Draw = std::function<double(const Stream&, uint64_t i)>;
double standard_normal(const Stream& s, uint64_t i);
/// At least 0.2 away from zero, either sign: clear of the kink of relu.
double off_zero(const Stream& s, uint64_t i);
Draw between(double low, double high);

struct Input {
  std::string name;
  Shape shape;
  Draw draw = standard_normal;
};

using Arguments = std::vector<Variable>;

struct OpCase {
  std::string op;             // its name in autograd/ops.h
  std::string options;        // what this entry switches on, for messages
  std::vector<Input> inputs;  // those that gradients flow into
  std::function<Variable(const Arguments&)> apply;
  double step = 1e-2;  // the largest step of finite differences: no kink nearer than that

  /// "linear [transposed] x (5, 31), W (3, 31)"
  std::string label() const;
};

const std::vector<OpCase>& op_table();
/// The inputs of an entry: the same numbers every time.
std::vector<Tensor> make_inputs(const OpCase& c, Device device);

// The parts of the table, each in its own file.
void add_elementwise_ops(std::vector<OpCase>& table);  // op_table.cpp
void add_row_ops(std::vector<OpCase>& table);          // op_table.cpp: softmax, layer norm, embedding
void add_linear_ops(std::vector<OpCase>& table);       // op_table_linear.cpp
void add_attention_ops(std::vector<OpCase>& table);    // op_table_attention.cpp
void add_continuous_ops(std::vector<OpCase>& table);   // op_table_continuous.cpp

}  // namespace lem::test
