// Checks the backward of an operation of the table against finite differences of its forward. The check answers with
// the first thing that is wrong, in words, or with nothing: so that a test can also demand that it finds a fault.
#pragma once

#include "tests/op_table.h"

namespace lem::test {

/// What stands between an argument and the operation: nothing, or a fault that a test plants.
using Wrap = std::function<Variable(const Variable& x, size_t argument)>;

/// Gradients of Σ cotangent ⊙ y against differences of it, along random directions and element by element (in double;
/// in float they are only checked to be finite and of the right shape).
std::string check_gradients(const OpCase& c, Device device, const Wrap& wrap = {});

/// The same bits again in a second run, while anomalies are looked for, and alone without the other arguments'
/// gradients, and the same forward under NoGrad; a gradient on top of one that is already there adds up.
std::string check_conduct(const OpCase& c, Device device);

/// A scalar function's derivative at 0, from values at ±step, ±step/2, ….
double derivative_at_zero(const std::function<double(double)>& f, double step);

}  // namespace lem::test
