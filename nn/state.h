// What a model carries from segment to segment. A state lists its fields once, in visit(); clearing a row, counting
// bytes, saving and loading are written once, on top of that, for every model's state.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tensor/io/safetensors.h"
#include "tensor/random.h"
#include "tensor/tensor.h"

namespace lem {

/// Sizes of a field: one that a file may choose, but not as 0, and the number of rows.
inline constexpr int64_t kAny = -1, kRows = -2;

/// Is handed every field of a state, in order.
class Fields {
 public:
  virtual ~Fields() = default;
  /// A tensor, or an undefined one, whose rows of the batch lie along `axis`. Of a file it must have these sizes.
  virtual void tensor(const std::string& name, Tensor& x, int axis, const std::vector<int64_t>& sizes) = 0;
  /// What saves work and can be made again: no part of a saved state. axis < 0: the same for all rows.
  virtual void cache(Tensor& x, int axis) = 0;
  /// A number a row, 0 where nothing was read. Of a file it must lie in [0, most].
  virtual void integers(const std::string& name, std::vector<int64_t>& rows, int64_t most) = 0;
  /// Where each row draws from; empty until State::draw_from. A row that is cleared goes on in it.
  virtual void randoms(const std::string& name, std::vector<Random>& rows) = 0;
  /// How many of a list's items there are, at most `most`: `now`, or as many as a file holds.
  virtual int64_t count(const std::string&, int64_t now, int64_t /*most*/) { return now; }
  /// Fields that `list` hands over have names that begin with `name`.
  template <class List>
  void part(const std::string& name, List list) {
    const size_t outside = prefix_.size();
    prefix_ += name + ".";
    list();
    prefix_.resize(outside);
  }

 protected:
  std::string prefix_ = "state.";
};

/// Complains about a state that was read from a file, part by part.
class StateCheck {
 public:
  explicit StateCheck(std::string file) : file_(std::move(file)) {}
  /// An Error, "[state] "file": name what; …", unless the condition holds.
  void require(bool condition, const std::string& name, const std::string& what) const;
  /// The first `steps` along axis 1 of x's row b are zeros: there is no document that they could belong to.
  void require_zeros(const std::string& name, const Tensor& x, int64_t b, int64_t steps) const;

 private:
  std::string file_;
};

/// A value: copies share tensors, none of which is ever written to.
class State {
 public:
  virtual ~State() = default;
  virtual std::unique_ptr<State> clone() const = 0;

  /// (B): steps read of each row's current document; 0: a document begins next.
  std::vector<int64_t> age;
  int64_t rows() const { return int64_t(age.size()); }

  void visit(Fields& fields);
  /// Nothing of these rows' documents will be seen again.
  void clear_rows(const std::vector<uint8_t>& which);
  void clear_row(int64_t b);
  /// Row b's document draws what it needs (sticky points) from documents[b], so that it depends neither on its place in
  /// the batch nor on its neighbours.
  void draw_from(const std::vector<Random>& documents);
  /// Bytes held beyond the parameters.
  size_t bytes() const;
  /// Adds it to a file being written, under "state.…".
  void save(SafetensorsWriter& writer) const;
  /// Takes the place of this state, which is a new one of the model, on a device. Every part is checked against it and
  /// the others: sizes, counts, numbers that are not finite, rows that should be empty. An Error names the file and
  /// the part that does not fit.
  void load(const SafetensorsFile& file, Device device);

 protected:
  explicit State(int64_t B) : age(size_t(B), 0) {}
  virtual void visit_layers(Fields& fields) = 0;
  virtual void check_layers(const StateCheck& check) const = 0;
};

/// The rows of a batch that a file's state has: a new state of as many is what load() is called on.
int64_t saved_rows(const SafetensorsFile& file);

/// A state with a part for each layer.
///   struct Layer { void visit(Fields&); void check(const StateCheck&, const std::string& name, ages) const; };
template <class Layer>
class LayerStates final : public State {
 public:
  LayerStates(int64_t B, std::vector<Layer> layers) : State(B), layers(std::move(layers)) {}
  std::unique_ptr<State> clone() const override { return std::make_unique<LayerStates>(*this); }

  std::vector<Layer> layers;

 private:
  void visit_layers(Fields& fields) override {
    for (size_t l = 0; l < layers.size(); ++l) fields.part(std::to_string(l), [&] { layers[l].visit(fields); });
  }
  void check_layers(const StateCheck& check) const override {
    for (size_t l = 0; l < layers.size(); ++l) layers[l].check(check, fmt::format("state.{}.", l), age);
  }
};

}  // namespace lem
