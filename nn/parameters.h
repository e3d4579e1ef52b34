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

/// What a parameter is to those who make and train it.
struct ParameterOptions {
  Init init = {};
  bool decay = true;  // does weight decay draw it to 0? Not norms, biases and embeddings
  std::vector<std::string> parts =
      {};  // names of its slices along the leading axis in files (w: (2, N) as w_mu, w_sigma)
};

class Parameters {
 public:
  /// Initial values are drawn from `seed`: parameter number i from stream i, so a model's start depends on nothing
  /// else.
  Parameters(Device device, uint64_t seed) : device_(device), seed_(seed) {}

  /// Parameters whose names begin with this are constants: no gradient, no moments. Before the model is built.
  void freeze(const std::string& prefix);
  /// A new parameter.
  Variable add(const std::string& name, const Shape& shape, const ParameterOptions& options);
  /// Moves everything into the arenas, [decayed | not decayed | frozen], each as it was added. Variables given out
  /// before stay valid. Call once, after the model is built. An Error if nothing is called what was to be frozen.
  void pack();

  struct Named {
    std::string name;
    Tensor value, grad;  // grad: undefined if frozen
  };
  /// Every parameter (or part) by its name in files, in order of creation.
  std::vector<Named> named() const;
  /// All values, (n), and the gradients of the first of them that are learned, (trained); an Error before pack().
  const Tensor& values() const { return packed(values_); }
  const Tensor& grads() const { return packed(grads_); }
  /// The first `decayed` of both are what weight decay acts on.
  int64_t decayed() const { return decayed_; }
  int64_t count() const { return count_; }  // numbers, without the arena's padding
  Device device() const { return device_; }
  void zero_grad() const;

 private:
  struct Entry {
    std::string name;
    Variable variable;
    ParameterOptions options;
    bool frozen;
  };
  static const Tensor& packed(const Tensor& arena);

  Device device_;
  uint64_t seed_;
  int64_t count_ = 0, decayed_ = 0;
  std::vector<std::string> frozen_;
  std::vector<Entry> entries_;
  Tensor values_, grads_;
};

}  // namespace lem
