// The ridge operators of a model's memories, on its device. They depend on the basis, R, τ, λ and the padding alone, so
// all layers share them; each is made when it is first wanted and kept among the 64 used last.
#pragma once

#include <list>
#include <utility>

#include "autograd/ops.h"
#include "nn/ridge.h"

namespace lem {

class RidgeOperators {
 public:
  RidgeOperators(Basis basis, int64_t R, double tau, double lambda, bool padding, Device device)
      : basis_(std::move(basis)), R_(R), tau_(tau), lambda_(lambda), padding_(padding), device_(device) {}

  /// G (L, N) for the first L vectors of a document.
  Tensor first(int64_t L);
  /// G_new (L, N) for L vectors behind an old signal, and what that signal meets: G_old (R, N) where it is read at
  /// points u of one's choice, A (N, N) = G_oldᵀ Ψ(u) at the uniform ones.
  struct Next {
    Tensor G_new, G_old_or_A;
  };
  Next next(int64_t L, bool uniform);

  static constexpr size_t kMost = 64;
  size_t held() const { return used_.size(); }

 private:
  enum class Kind { first, next, next_uniform };
  struct Entry {
    Kind kind;
    int64_t L;
    Next tensors;
  };
  template <class Make>
  Next find(Kind kind, int64_t L, Make make);

  Basis basis_;
  int64_t R_;
  double tau_, lambda_;
  bool padding_;
  Device device_;
  std::list<Entry> used_;  // the last first
};

/// Numbers of the host, made in double, on a device.
Tensor to_device(const std::vector<double>& values, const Shape& shape, Device device);

}  // namespace lem
