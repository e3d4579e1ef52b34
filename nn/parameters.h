// The parameters of a model: named, and after pack() all values lie in one flat arena and all gradients in another, so
// that zeroing, clipping, Adam, saving and loading are single passes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "autograd/variable.h"
#include "tensor/random.h"

namespace lem {

/// How a parameter starts.
struct Init {
  double mean = 0, stddev = 0;
  static Init constant(double value) { return {value, 0}; }
  static Init normal(double stddev) { return {0, stddev}; }
};

class Parameters {
 public:
  /// Initial values are drawn from `seed`: parameter number i from stream i, so a model's start depends on nothing
  /// else.
  Parameters(Device device, uint64_t seed) : device_(device), seed_(seed) {}

  /// A new parameter. `parts`, if given, are the names of its slices along the leading axis in files (w: (2, N) as w_mu
  /// and w_sigma).
  Variable add(const std::string& name, const Shape& shape, Init init, const std::vector<std::string>& parts = {});
  /// Moves everything into the arenas. Variables given out before stay valid. Call once, after the model is built.
  void pack();

  struct Named {
    std::string name;
    Tensor value, grad;
  };
  /// Every parameter (or part) by its name in files, in order of creation.
  std::vector<Named> named() const;
  /// All values and all gradients, (n) each; an Error before pack().
  const Tensor& values() const { return packed(values_); }
  const Tensor& grads() const { return packed(grads_); }
  int64_t count() const { return count_; }  // numbers learned, without the arena's padding
  Device device() const { return device_; }
  void zero_grad() const;

 private:
  struct Entry {
    std::string name;
    Variable variable;
    std::vector<std::string> parts;
  };
  static const Tensor& packed(const Tensor& arena);

  Device device_;
  uint64_t seed_;
  int64_t count_ = 0;
  std::vector<Entry> entries_;
  Tensor values_, grads_;
};

}  // namespace lem
