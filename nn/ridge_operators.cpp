#include "nn/ridge_operators.h"

#include <algorithm>

namespace lem {

Tensor to_device(const std::vector<double>& values, const Shape& shape, Device device) {
  return Tensor::from(std::vector<real>(values.begin(), values.end()), shape, device);
}

template <class Make>
RidgeOperators::Next RidgeOperators::find(Kind kind, int64_t L, Make make) {
  const auto found =
      std::find_if(used_.begin(), used_.end(), [&](const Entry& e) { return e.kind == kind && e.L == L; });
  if (found != used_.end()) {
    used_.splice(used_.begin(), used_, found);
  } else {
    used_.push_front({kind, L, make()});
    if (used_.size() > kMost) used_.pop_back();
  }
  return used_.front().tensors;
}

Tensor RidgeOperators::first(int64_t L) {
  return find(Kind::first, L,
              [&] {
                return Next{
                    to_device(ridge_operator(basis_, positions(L), lambda_, padding_), {L, basis_.size()}, device_),
                    {}};
              })
      .G_new;
}

RidgeOperators::Next RidgeOperators::next(int64_t L, bool uniform) {
  return find(uniform ? Kind::next_uniform : Kind::next, L, [&] {
    const int64_t N = basis_.size();
    const Contraction c = contraction(basis_, R_, tau_, L, lambda_, padding_);
    return Next{to_device(c.G_new, {L, N}, device_),
                uniform ? to_device(c.A, {N, N}, device_) : to_device(c.G_old, {R_, N}, device_)};
  });
}

}  // namespace lem
