#include "models/state.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "nn/checkpoint.h"

namespace lem {
namespace {

std::string layer_name(size_t l) { return fmt::format("state.{}.", l); }
std::string update_name(size_t l, size_t i) { return fmt::format("state.{}.history.{}.", l, i); }

template <class T>
void add_integers(SafetensorsWriter& writer, const std::string& name, const std::vector<T>& values) {
  // The source owns a copy: the state may move on before the file is written.
  writer.add(name, DType::I64, {int64_t(values.size())},
             [wide = std::vector<int64_t>(values.begin(), values.end())](const SafetensorsWriter::Sink& sink) {
               sink(wide.data(), wide.size() * 8);
             });
}

bool any(const std::vector<uint8_t>& flags) {
  return std::any_of(flags.begin(), flags.end(), [](uint8_t f) { return f != 0; });
}

constexpr int64_t kAny = -1;                   // a size that the file may choose, but not as 0
constexpr int64_t kTokens = int64_t(1) << 53;  // more than a document has
constexpr int64_t kLeast = std::numeric_limits<int64_t>::min(), kMost = std::numeric_limits<int64_t>::max();

/// Reads a state part by part. Nothing is taken on trust: what kernels are handed has the model's sizes.
class Reader {
 public:
  Reader(const SafetensorsFile& file, const TransformerXL& model, Device device)
      : file_(file), options_(model.options()), memory_(model.memory_options()), device_(device) {
    const std::vector<int64_t>& rows = file.entry("state.valid").shape;
    require(rows.size() == 1 && rows[0] > 0, "state.valid", "does not list the rows of a batch");
    B_ = rows[0];
    state_ = model.new_state(B_);
    state_.valid = integers("state.valid", 0, kTokens);
    for (size_t l = 0; l < state_.layers.size(); ++l) {
      read_recent(l);
      if (memory_ != nullptr) read_memory(l);
    }
    for (const std::string& name : file.names())
      require(!name.starts_with("state.") || read_.count(name), name, "is no part of this model's states");
  }

  State state() { return std::move(state_); }

 private:
  void read_recent(size_t l) {
    const std::string name = layer_name(l) + "recent";
    const Tensor& first = state_.layers[0].recent;
    const bool read = std::any_of(state_.valid.begin(), state_.valid.end(), [](int64_t n) { return n > 0; });
    if (!read && !first.defined() && !(l == 0 && file_.contains(name))) return;
    Tensor& recent = state_.layers[l].recent;
    recent = tensor(name, {B_, l == 0 ? kAny : first.dim(1), options_.width});
    for (int64_t b = 0; b < B_; ++b) require_zeros(name, recent, b, recent.dim(1) - state_.valid[size_t(b)]);
  }

  void read_memory(size_t l) {
    const std::string name = layer_name(l);
    const Tensor& recent = state_.layers[l].recent;
    MemoryState& memory = state_.layers[l].memory;
    memory.filled = flags(name + "filled");
    memory.count = integers(name + "count", 0, kTokens);
    for (size_t b = 0; b < memory.count.size(); ++b) {  // what is no longer recent has been stored
      const int64_t left = std::max<int64_t>(0, state_.valid[b] - (recent.defined() ? recent.dim(1) : 0));
      require(memory.count[b] == left && memory.filled[b] == (left > 0), name + "count",
              "does not go with the numbers of tokens read and of recent steps");
    }
    if (file_.contains(name + "random.seed")) {
      const std::vector<int64_t> seeds = integers(name + "random.seed"), next = integers(name + "random.next");
      for (size_t b = 0; b < seeds.size(); ++b) memory.random.push_back({uint64_t(seeds[b]), uint64_t(next[b])});
    }
    const bool some = any(memory.filled);
    if (some || file_.contains(name + "coeffs")) memory.coeffs = coefficients(name + "coeffs", memory.filled);
    if ((some && memory_->sticky) || (memory_->density != MemoryDensity::gibbs && file_.contains(name + "density"))) {
      memory.density = tensor(name + "density", {2, B_, options_.heads, kAny});
      for (real sigma2 : memory.density.slice(1, 2).to_vector())
        require(sigma2 > 0, name + "density", "holds a variance that is not positive");
    }
    for (size_t i = 0; int64_t(i) < memory_->grad_updates - 1 && file_.contains(update_name(l, i) + "X"); ++i)
      memory.history.push_back(read_update(update_name(l, i), memory.filled));
    if (memory.history.empty()) return;
    const std::vector<uint8_t>& before = memory.history.front().filled;
    if (any(before) || file_.contains(name + "base")) memory.base = coefficients(name + "base", before);
  }

  MemoryState::Update read_update(const std::string& name, const std::vector<uint8_t>& filled) {
    MemoryState::Update update;
    update.X = tensor(name + "X", {B_, kAny, options_.width});
    const int64_t L = update.X.dim(1);
    update.filled = flags(name + "filled");
    update.newcomers = integers(name + "newcomers", 0, L);
    std::vector<uint8_t> after = update.filled;
    for (size_t b = 0; b < after.size(); ++b) {
      require(!update.filled[b] || update.newcomers[b] == L, name + "newcomers", "leaves a gap in a document");
      after[b] = update.filled[b] || update.newcomers[b] > 0;
      require(!after[b] || filled[b], name + "filled", "has stored something in a row that is empty");
    }
    if ((any(update.filled) && memory_->sticky) || file_.contains(name + "points")) {
      update.points = tensor(name + "points", {B_, memory_->R});
      for (real u : update.points.to_vector())
        require(u >= 0 && u <= 1, name + "points", "holds a point outside [0, 1]");
    }
    update.after = coefficients(name + "after", after);
    return update;
  }

  /// (B, N, C), of rows that hold something.
  Tensor coefficients(const std::string& name, const std::vector<uint8_t>& filled) {
    const Tensor coeffs = tensor(name, {B_, memory_->N, options_.width});
    for (int64_t b = 0; b < B_; ++b) require_zeros(name, coeffs, b, filled[size_t(b)] ? 0 : memory_->N);
    return coeffs;
  }

  Tensor tensor(const std::string& name, std::vector<int64_t> expected) {
    const std::vector<int64_t>& shape = file_.entry(name).shape;
    for (size_t i = 0; i < std::min(shape.size(), expected.size()); ++i)
      if (expected[i] == kAny) expected[i] = std::max<int64_t>(shape[i], 1);
    const size_t n = shape == expected ? size_t(Shape(shape).numel()) : 0;  // else read_as says what differs
    std::vector<real> values(n);
    file_.read_as<real>(name, values.data(), expected);
    read_.insert(name);
    for (real value : values) require(std::isfinite(value), name, "holds a number that is not finite");
    return Tensor::from(values, Shape(shape), device_);
  }

  /// One a row, in [low, high].
  std::vector<int64_t> integers(const std::string& name, int64_t low = kLeast, int64_t high = kMost) {
    std::vector<int64_t> values(static_cast<size_t>(B_));
    file_.read(name, values.data(), DType::I64, {B_});
    read_.insert(name);
    for (int64_t value : values)
      require(value >= low && value <= high, name, fmt::format("holds {}, expected {} … {}", value, low, high));
    return values;
  }
  std::vector<uint8_t> flags(const std::string& name) {
    const std::vector<int64_t> values = integers(name, 0, 1);
    return {values.begin(), values.end()};
  }

  /// The first `steps` of x[b] are zeros: there is no document that they could belong to.
  void require_zeros(const std::string& name, const Tensor& x, int64_t b, int64_t steps) const {
    if (steps <= 0) return;
    const std::vector<real> row = x.slice(b, b + 1).to_vector();
    require(std::all_of(row.begin(), row.begin() + steps * x.dim(2), [](real value) { return value == 0; }), name,
            "holds something where there is no document");
  }

  void require(bool condition, const std::string& name, const std::string& what) const {
    check(condition, "[state] \"{}\": {} {}; use a file that was saved by the same model and configuration",
          file_.path(), name, what);
  }

  const SafetensorsFile& file_;
  const TransformerOptions& options_;
  const MemoryOptions* memory_;
  Device device_;
  int64_t B_ = 0;
  State state_;
  std::set<std::string> read_;
};

}  // namespace

void add_state(SafetensorsWriter& writer, const State& state) {
  const auto add = [&](const std::string& name, const Tensor& tensor) {
    if (tensor.defined()) add_tensor(writer, name, tensor);
  };
  add_integers(writer, "state.valid", state.valid);
  for (size_t l = 0; l < state.layers.size(); ++l) {
    const MemoryState& memory = state.layers[l].memory;
    const std::string name = layer_name(l);
    add(name + "recent", state.layers[l].recent);
    if (memory.filled.empty()) continue;  // a model without long-term memory
    add_integers(writer, name + "filled", memory.filled);
    add_integers(writer, name + "count", memory.count);
    if (!memory.random.empty()) {
      std::vector<uint64_t> seeds, next;
      for (const Random& random : memory.random) seeds.push_back(random.seed), next.push_back(random.next);
      add_integers(writer, name + "random.seed", seeds), add_integers(writer, name + "random.next", next);
    }
    add(name + "coeffs", memory.coeffs), add(name + "density", memory.density), add(name + "base", memory.base);
    for (size_t i = 0; i < memory.history.size(); ++i) {
      const MemoryState::Update& update = memory.history[i];
      const std::string part = update_name(l, i);
      add_integers(writer, part + "filled", update.filled);
      add_integers(writer, part + "newcomers", update.newcomers);
      add(part + "X", update.X), add(part + "points", update.points), add(part + "after", update.after);
    }
  }
}

State read_state(const SafetensorsFile& file, const TransformerXL& model, Device device) {
  return Reader(file, model, device).state();
}

}  // namespace lem
