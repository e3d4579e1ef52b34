#include "autograd/variable.h"

#include <algorithm>
#include <utility>

namespace lem {

// ---- Gradient -------------------------------------------------------------------------------------------------------

const Tensor& Gradient::value() const {
  check(made(), "[grad] this gradient was never made: call backward() on a loss that depends on it first");
  return tensor_;
}

void Gradient::add(Tensor g) {
  check(g.shape() == shape_, "[grad] gradient has shape {}, its value {}", g.shape(), shape_);
  if (tape().detect_anomaly) tape().touched_.push_back(this);
  if (made())
    on(device_).axpy(tensor_.data(), 1, g.data(), g.numel());
  else
    tensor_ = std::move(g);
}

const Tensor& Gradient::buffer() {
  if (tape().detect_anomaly) tape().touched_.push_back(this);
  if (!made()) tensor_ = zeros(shape_, device_);
  return tensor_;
}

Gradient::Target Gradient::target() {
  if (tape().detect_anomaly) tape().touched_.push_back(this);
  const bool first = !made();
  if (first) tensor_ = Tensor(shape_, device_);
  return {tensor_, first ? real(0) : real(1)};
}

Tensor Gradient::take() { return std::exchange(tensor_, Tensor()); }

// ---- Variable -------------------------------------------------------------------------------------------------------

Variable Variable::leaf(Tensor value) {
  GradSlot slot = std::make_shared<Gradient>(value.shape(), value.device());
  return Variable(std::move(value), std::move(slot));
}

const Tensor& Variable::grad() const {
  check(slot_ != nullptr, "[grad] this value wants no gradient: it is a constant, or was made under NoGrad");
  return slot_->value();
}

// ---- Tape -----------------------------------------------------------------------------------------------------------

Tape& tape() {
  static thread_local Tape instance;
  return instance;
}

std::string Tape::where(const char* op) const {
  std::string path;
  for (const std::string& scope : scopes) path += scope + " / ";
  return path + op;
}

const Variable& Tape::record(const char* op, const Variable& y, Backward backward) {
  if (detect_anomaly) {
    const int64_t bad = count_nonfinite(y.value());
    check(bad == 0, "[anomaly] {} made {} values that are not finite, of {} in its result {}", where(op), bad,
          y.numel(), y.shape());
  }
  if (y.needs_grad()) nodes_.push_back({op, detect_anomaly ? where(op) : "", y.slot(), std::move(backward)});
  return y;
}

void Tape::backward(const Variable& loss) {
  check(loss.numel() == 1, "[backward] needs a loss of one element: got shape {}", loss.shape());
  check(loss.needs_grad(), "[backward] this loss depends on no parameter, or was computed under NoGrad");
  const bool on_tape = std::any_of(nodes_.begin(), nodes_.end(), [&](const Node& n) { return n.y == loss.slot(); });
  check(on_tape, "[backward] the tape no longer holds this loss: backward was already called; compute the loss again");

  std::vector<Node> nodes = std::exchange(nodes_, {});  // so that the tape is empty afterwards, also after an error
  loss.slot()->add(full(loss.shape(), 1, loss.device()));
  while (!nodes.empty()) {
    Node node = std::move(nodes.back());
    nodes.pop_back();
    if (!node.y->made()) continue;  // nothing that the loss depends on
    touched_.clear();
    const Tensor dy = node.y->take();
    node.backward(dy);
    if (!detect_anomaly) continue;
    for (const Gradient* slot : touched_) {
      const int64_t bad = count_nonfinite(slot->value());
      check(bad == 0, "[anomaly] backward of {} made {} values that are not finite, in a gradient of shape {}",
            node.where.empty() ? node.op : node.where, bad, slot->value().shape());
    }
  }
}

Variable result(const char* op, const Shape& shape, std::initializer_list<const Variable*> inputs) {
  const Variable* first = nullptr;
  bool wants = false;
  for (const Variable* input : inputs) {
    if (!input->defined()) continue;  // an optional input that was left out
    if (first == nullptr) first = input;
    check(input->device() == first->device(), "[{}] inputs are on different devices: {} and {}; move them with to()",
          op, name(first->device()), name(input->device()));
    wants = wants || input->needs_grad();
  }
  check(first != nullptr, "[{}] has no inputs", op);
  Tensor value(shape, first->device());
  if (!wants || !tape().recording) return Variable(std::move(value));
  GradSlot slot = std::make_shared<Gradient>(shape, first->device());
  return Variable(std::move(value), std::move(slot));
}

}  // namespace lem
