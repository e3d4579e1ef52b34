// Variable: a tensor that may want a gradient. Tape: the list of backward steps that fills those gradients.
//
//   Variable y = f(x)            runs the forward kernel and records one closure on the tape
//   backward(loss)               walks the tape from its end, running each closure once and dropping it
//
// Every operation lives in one file of this folder: the derivation, the forward, and right below it the backward.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tensor/tensor.h"

namespace lem {

/// Where the gradient of one value gathers. The first contribution is taken over as it is, later ones are added.
class Gradient {
 public:
  Gradient(const Shape& shape, Device device) : shape_(shape), device_(device) {}
  /// A slot whose numbers live in `storage` for good (a parameter's part of the gradient arena).
  explicit Gradient(Tensor storage) : shape_(storage.shape()), device_(storage.device()), tensor_(std::move(storage)) {}

  bool made() const { return tensor_.defined(); }
  /// The gradient; an Error if none was ever made.
  const Tensor& value() const;
  /// Adds g, which the caller gives away.
  void add(Tensor g);
  /// For kernels that add (+=): the buffer, of zeros at first.
  const Tensor& buffer();
  /// For matrix products: the buffer with the beta that makes C = op(A) op(B) + beta C the right thing.
  struct Target {
    const Tensor& tensor;
    real beta;
  };
  Target target();
  /// Hands the gradient over and forgets it.
  Tensor take();

 private:
  Shape shape_;
  Device device_;
  Tensor tensor_;
};
using GradSlot = std::shared_ptr<Gradient>;

class Variable {
 public:
  Variable() = default;
  /// A constant: no gradient flows into it.
  Variable(Tensor value) : value_(std::move(value)) {}
  Variable(Tensor value, GradSlot slot) : value_(std::move(value)), slot_(std::move(slot)) {}
  /// A leaf whose gradient stays (parameters, and inputs under test).
  static Variable leaf(Tensor value);

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  int64_t dim(int i) const { return value_.dim(i); }
  int64_t numel() const { return value_.numel(); }
  Device device() const { return value_.device(); }
  real* data() const { return value_.data(); }
  bool needs_grad() const { return slot_ != nullptr; }
  /// Where the gradient gathers; null if none is wanted.
  const GradSlot& slot() const { return slot_; }
  /// The gradient; an Error if backward never made one.
  const Tensor& grad() const;
  /// The same value, cut off from the tape.
  Variable detach() const { return Variable(value_); }

 private:
  Tensor value_;
  GradSlot slot_;
};

/// The linear list of what to do backwards. Creation order is a topological order, so no graph is ever searched.
class Tape {
 public:
  /// Gets dy, the gradient of the operation's result, and adds to its inputs' slots.
  using Backward = std::function<void(const Tensor& dy)>;

  /// Notes how to go back through the operation that made y. Returns y.
  const Variable& record(const char* op, const Variable& y, Backward backward);
  void backward(const Variable& loss);
  void clear() { nodes_.clear(); }
  size_t size() const { return nodes_.size(); }

  bool recording = true;            // NoGrad turns it off
  bool detect_anomaly = false;      // check every result and gradient for NaN and infinity
  std::vector<std::string> scopes;  // where in the model we are, for messages

 private:
  struct Node {
    const char* op;
    std::string where;
    GradSlot y;
    Backward backward;
  };
  std::vector<Node> nodes_;
  std::string where(const char* op) const;
  friend class Gradient;
  std::vector<Gradient*> touched_;  // slots that the running closure wrote to (only with detect_anomaly)
};

/// The tape of this thread.
Tape& tape();

/// dloss/d… for every leaf that loss depends on; loss has one element. The tape is empty afterwards.
inline void backward(const Variable& loss) { tape().backward(loss); }

/// No operation is recorded while one of these lives.
class NoGrad {
 public:
  NoGrad() : before_(tape().recording) { tape().recording = false; }
  ~NoGrad() { tape().recording = before_; }
  NoGrad(const NoGrad&) = delete;

 private:
  bool before_;
};

/// Names a part of the model while it lives: "layers.1 / attention" in messages.
class NameScope {
 public:
  explicit NameScope(std::string name) { tape().scopes.push_back(std::move(name)); }
  ~NameScope() { tape().scopes.pop_back(); }
  NameScope(const NameScope&) = delete;
};

/// An uninitialised result on the inputs' device. It wants a gradient if the tape records and an input wants one; an
/// Error names the operation if the inputs are on different devices.
Variable result(const char* op, const Shape& shape, std::initializer_list<const Variable*> inputs);

}  // namespace lem
