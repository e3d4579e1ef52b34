#include "nn/parameters.h"

#include <algorithm>

#include "tensor/pool.h"

namespace lem {

void Parameters::freeze(const std::string& prefix) {
  check(entries_.empty(), "[parameters] freeze(\"{}\") comes before the model is built: it is what add() goes by",
        prefix);
  frozen_.push_back(prefix);
}

Variable Parameters::add(const std::string& name, const Shape& shape, const ParameterOptions& options) {
  check(!values_.defined(), "[parameters] {} comes after pack()", name);
  check(options.parts.empty() || int64_t(options.parts.size()) == shape[0],
        "[parameters] {} has {} part names for shape {}", name, options.parts.size(), shape);
  for (const Entry& e : entries_) check(e.name != name, "[parameters] the name {} is taken", name);
  const Stream stream{seed_, entries_.size()};
  std::vector<real> start(static_cast<size_t>(shape.numel()));
  const Init init = options.init;
  for (size_t i = 0; i < start.size(); ++i)
    start[i] = real(init.mean + (init.stddev > 0 ? init.stddev * stream.normal(i) : 0));
  const Tensor value = Tensor::from(start, shape, device_);
  const bool frozen =
      std::any_of(frozen_.begin(), frozen_.end(), [&](const std::string& prefix) { return name.starts_with(prefix); });
  const Variable variable = frozen ? Variable(value) : Variable::leaf(value);
  if (!frozen) variable.slot()->buffer();
  entries_.push_back({name, variable, options, frozen});
  count_ += shape.numel();
  return variable;
}

void Parameters::pack() {
  check(!values_.defined(), "[parameters] pack() was called before: call it once, after the model is built");
  for (const std::string& prefix : frozen_)
    check(std::any_of(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.name.starts_with(prefix); }),
          "[parameters] nothing to freeze is called {}…: got parameters {} … {}", prefix,
          entries_.empty() ? "" : entries_.front().name, entries_.empty() ? "" : entries_.back().name);
  constexpr int64_t kAlign = 64 / sizeof(real);  // each parameter starts on a cache line
  int64_t n = 0;
  std::vector<int64_t> offsets(entries_.size());
  for (int group = 0; group < 3; ++group) {
    for (size_t i = 0; i < entries_.size(); ++i) {
      const Entry& e = entries_[i];
      if (group != (e.frozen ? 2 : e.options.decay ? 0 : 1)) continue;
      offsets[i] = n;
      n += (e.variable.numel() + kAlign - 1) / kAlign * kAlign;
    }
    if (group == 0) decayed_ = n;
    if (group == 1) grads_ = zeros({n}, device_);
  }
  values_ = zeros({n}, device_);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Variable& v = entries_[i].variable;
    v.value().storage()->move_into(values_.storage(), size_t(offsets[i]) * sizeof(real));
    if (!entries_[i].frozen)
      v.slot()->buffer().storage()->move_into(grads_.storage(), size_t(offsets[i]) * sizeof(real));
  }
  pool_trim(device_);  // where they lay before: as much again as the model, of sizes that no step asks for
}

std::vector<Parameters::Named> Parameters::named() const {
  std::vector<Named> all;
  for (const Entry& e : entries_) {
    const Tensor value = e.variable.value(), grad = e.frozen ? Tensor() : e.variable.slot()->buffer();
    if (e.options.parts.empty()) {
      all.push_back({e.name, value, grad});
      continue;
    }
    const std::vector<int64_t> sizes = value.shape().vector();
    const Shape part_shape(std::vector<int64_t>(sizes.begin() + 1, sizes.end()));
    const std::string stem = e.name.substr(0, e.name.rfind('.') + 1);
    const auto part = [&](const Tensor& x, int64_t p) {
      return x.defined() ? x.slice(p, p + 1).reshape(part_shape) : Tensor();
    };
    for (int64_t p = 0; p < value.dim(0); ++p)
      all.push_back({stem + e.options.parts[size_t(p)], part(value, p), part(grad, p)});
  }
  return all;
}

void Parameters::zero_grad() const { on(device_).fill(grads().data(), 0, grads().numel()); }

const Tensor& Parameters::packed(const Tensor& arena) {
  check(arena.defined(),
        "[parameters] not packed yet: got no arena of values and gradients; call pack() once, after "
        "the model is built");
  return arena;
}

}  // namespace lem
