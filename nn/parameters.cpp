#include "nn/parameters.h"

#include "tensor/pool.h"

namespace lem {

Variable Parameters::add(const std::string& name, const Shape& shape, Init init,
                         const std::vector<std::string>& parts) {
  check(!values_.defined(), "[parameters] {} comes after pack()", name);
  check(parts.empty() || int64_t(parts.size()) == shape[0], "[parameters] {} has {} part names for shape {}", name,
        parts.size(), shape);
  for (const Entry& e : entries_) check(e.name != name, "[parameters] the name {} is taken", name);
  const Stream stream{seed_, entries_.size()};
  std::vector<real> start(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < start.size(); ++i)
    start[i] = real(init.mean + (init.stddev > 0 ? init.stddev * stream.normal(i) : 0));
  Variable variable = Variable::leaf(Tensor::from(start, shape, device_));
  variable.slot()->buffer();
  entries_.push_back({name, variable, parts});
  count_ += shape.numel();
  return variable;
}

void Parameters::pack() {
  check(!values_.defined(), "[parameters] pack() was called before: call it once, after the model is built");
  constexpr int64_t kAlign = 64 / sizeof(real);  // each parameter starts on a cache line
  int64_t n = 0;
  std::vector<int64_t> offsets;
  for (const Entry& e : entries_) {
    offsets.push_back(n);
    n += (e.variable.numel() + kAlign - 1) / kAlign * kAlign;
  }
  values_ = zeros({n}, device_);
  grads_ = zeros({n}, device_);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const Variable& v = entries_[i].variable;
    v.value().storage()->move_into(values_.storage(), size_t(offsets[i]) * sizeof(real));
    v.slot()->buffer().storage()->move_into(grads_.storage(), size_t(offsets[i]) * sizeof(real));
  }
  pool_trim(device_);  // where they lay before: as much again as the model, of sizes that no step asks for
}

std::vector<Parameters::Named> Parameters::named() const {
  std::vector<Named> all;
  for (const Entry& e : entries_) {
    const Tensor &value = e.variable.value(), &grad = e.variable.slot()->buffer();
    if (e.parts.empty()) {
      all.push_back({e.name, value, grad});
      continue;
    }
    const std::vector<int64_t> sizes = value.shape().vector();
    const Shape part_shape(std::vector<int64_t>(sizes.begin() + 1, sizes.end()));
    const std::string stem = e.name.substr(0, e.name.rfind('.') + 1);
    for (int64_t p = 0; p < value.dim(0); ++p)
      all.push_back({stem + e.parts[size_t(p)], value.slice(p, p + 1).reshape(part_shape),
                     grad.slice(p, p + 1).reshape(part_shape)});
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
