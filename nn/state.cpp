#include "nn/state.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "nn/checkpoint.h"

namespace lem {
namespace {

constexpr int64_t kMostSteps = int64_t(1) << 53;  // more than a document has

/// Zeros in the rows that are to be empty. The numbers are copied first: other states may share them.
class Clear final : public Fields {
 public:
  explicit Clear(const std::vector<uint8_t>& which) : which_(which) {}
  void tensor(const std::string&, Tensor& x, int axis, const std::vector<int64_t>&) override { cache(x, axis); }
  void cache(Tensor& x, int axis) override {
    if (!x.defined() || axis < 0) return;
    x = x.clone();
    int64_t outer = 1;  // rows lie (outer, B, inner)
    for (int a = 0; a < axis; ++a) outer *= x.dim(a);
    const int64_t B = x.dim(axis), inner = outer * B > 0 ? x.numel() / (outer * B) : 0;
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t b = 0; b < B; ++b)
        if (which_[size_t(b)]) on(x.device()).fill(x.data() + (o * B + b) * inner, 0, inner);
  }
  void integers(const std::string&, std::vector<int64_t>& rows, int64_t) override {
    for (size_t b = 0; b < rows.size(); ++b)
      if (which_[b]) rows[b] = 0;
  }
  void randoms(const std::string&, std::vector<Random>&) override {}

 private:
  const std::vector<uint8_t>& which_;
};

/// Each of a state's sources of random numbers is another child of the row's document.
class Draw final : public Fields {
 public:
  explicit Draw(const std::vector<Random>& documents) : documents_(documents) {}
  void tensor(const std::string&, Tensor&, int, const std::vector<int64_t>&) override {}
  void cache(Tensor&, int) override {}
  void integers(const std::string&, std::vector<int64_t>&, int64_t) override {}
  void randoms(const std::string&, std::vector<Random>& rows) override {
    rows.clear();
    for (const Random& document : documents_) rows.push_back(document.child(next_));
    ++next_;
  }

 private:
  const std::vector<Random>& documents_;
  uint64_t next_ = 0;
};

class Bytes final : public Fields {
 public:
  void tensor(const std::string&, Tensor& x, int axis, const std::vector<int64_t>&) override { cache(x, axis); }
  void cache(Tensor& x, int) override {  // fields may share their numbers
    if (x.defined() && counted_.insert(x.storage().get()).second) sum += size_t(x.numel()) * sizeof(real);
  }
  void integers(const std::string&, std::vector<int64_t>&, int64_t) override {}
  void randoms(const std::string&, std::vector<Random>&) override {}
  size_t sum = 0;

 private:
  std::set<const Storage*> counted_;
};

class Save final : public Fields {
 public:
  explicit Save(SafetensorsWriter& writer) : writer_(writer) {}
  void tensor(const std::string& name, Tensor& x, int, const std::vector<int64_t>&) override {
    if (x.defined()) add_tensor(writer_, prefix_ + name, x);
  }
  void cache(Tensor&, int) override {}
  void integers(const std::string& name, std::vector<int64_t>& rows, int64_t) override { add(prefix_ + name, rows); }
  void randoms(const std::string& name, std::vector<Random>& rows) override {
    if (rows.empty()) return;
    std::vector<int64_t> seeds, next;
    for (const Random& random : rows) seeds.push_back(int64_t(random.seed)), next.push_back(int64_t(random.next));
    add(prefix_ + name + ".seed", seeds), add(prefix_ + name + ".next", next);
  }

 private:
  void add(const std::string& name, std::vector<int64_t> rows) {  // a copy: the state may move on before the writing
    const int64_t n = int64_t(rows.size());
    writer_.add(name, DType::I64, {n},
                [rows = std::move(rows)](const SafetensorsWriter::Sink& sink) { sink(rows.data(), rows.size() * 8); });
  }
  SafetensorsWriter& writer_;
};

/// Nothing is taken on trust: what kernels are handed has the model's sizes.
class Load final : public Fields {
 public:
  Load(const SafetensorsFile& file, int64_t B, Device device)
      : file_(file), check_(file.path()), B_(B), device_(device) {}

  void tensor(const std::string& part, Tensor& x, int, const std::vector<int64_t>& sizes) override {
    const std::string name = prefix_ + part;
    if (!file_.contains(name)) return;  // whether it may be missing, the state's own check knows
    std::vector<int64_t> expected = sizes;
    const std::vector<int64_t>& shape = file_.entry(name).shape;
    for (size_t i = 0; i < expected.size(); ++i) {
      if (expected[i] == kRows) expected[i] = B_;
      if (expected[i] == kAny) expected[i] = i < shape.size() ? std::max<int64_t>(shape[i], 1) : 1;
    }
    const size_t n = shape == expected ? size_t(Shape(shape).numel()) : 0;  // else read_as says what differs
    std::vector<real> values(n);
    file_.read_as<real>(name, values.data(), expected);
    read.insert(name);
    for (real value : values) check_.require(std::isfinite(value), name, "holds a number that is not finite");
    x = Tensor::from(values, Shape(shape), device_);
  }
  void cache(Tensor&, int) override {}
  void integers(const std::string& part, std::vector<int64_t>& rows, int64_t most) override {
    const std::string name = prefix_ + part;
    rows = numbers(name);
    for (int64_t value : rows)
      check_.require(0 <= value && value <= most, name, fmt::format("holds {}, expected 0 … {}", value, most));
  }
  void randoms(const std::string& part, std::vector<Random>& rows) override {
    const std::string name = prefix_ + part;
    rows.clear();
    if (!file_.contains(name + ".seed")) return;
    const std::vector<int64_t> seeds = numbers(name + ".seed"), next = numbers(name + ".next");
    for (size_t b = 0; b < seeds.size(); ++b) rows.push_back({uint64_t(seeds[b]), uint64_t(next[b])});
  }
  int64_t count(const std::string& part, int64_t, int64_t most) override {
    const std::vector<std::string> names = file_.names();
    const auto there = [&](int64_t i) {
      const std::string begin = fmt::format("{}{}.{}.", prefix_, part, i);
      return std::any_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(begin); });
    };
    int64_t n = 0;
    while (n < most && there(n)) ++n;
    return n;
  }

  std::set<std::string> read;

 private:
  /// One a row.
  std::vector<int64_t> numbers(const std::string& name) {
    std::vector<int64_t> values(static_cast<size_t>(B_));
    file_.read(name, values.data(), DType::I64, {B_});
    read.insert(name);
    return values;
  }

  const SafetensorsFile& file_;
  StateCheck check_;
  int64_t B_;
  Device device_;
};

}  // namespace

void StateCheck::require(bool condition, const std::string& name, const std::string& what) const {
  check(condition, "[state] \"{}\": {} {}; use a file that was saved by the same model and configuration", file_, name,
        what);
}

void StateCheck::require_zeros(const std::string& name, const Tensor& x, int64_t b, int64_t steps) const {
  if (!x.defined() || steps <= 0) return;
  const std::vector<real> row = x.slice(b, b + 1).to_vector();
  const int64_t n = std::min(steps, x.dim(1)) * x.dim(2);
  require(std::all_of(row.begin(), row.begin() + n, [](real value) { return value == 0; }), name,
          "holds something where there is no document");
}

void State::visit(Fields& fields) {
  fields.integers("age", age, kMostSteps);
  visit_layers(fields);
}

void State::clear_rows(const std::vector<uint8_t>& which) {
  if (std::none_of(which.begin(), which.end(), [](uint8_t w) { return w != 0; })) return;
  Clear clear(which);
  visit(clear);
}

void State::clear_row(int64_t b) {
  check(b >= 0 && b < rows(), "[state] there is no batch row {}: the state has {}", b, rows());
  std::vector<uint8_t> which(age.size(), 0);
  which[size_t(b)] = 1;
  clear_rows(which);
}

void State::draw_from(const std::vector<Random>& documents) {
  check(documents.size() == age.size(), "[state] got random numbers for {} documents, expected {}, one a row",
        documents.size(), age.size());
  Draw draw(documents);
  visit(draw);
}

size_t State::bytes() const {
  Bytes bytes;
  clone()->visit(bytes);
  return bytes.sum;
}

void State::save(SafetensorsWriter& writer) const {
  Save save(writer);
  clone()->visit(save);
}

void State::load(const SafetensorsFile& file, Device device) {
  Load load(file, rows(), device);
  visit(load);
  const StateCheck check(file.path());
  for (const std::string& name : file.names())
    check.require(!name.starts_with("state.") || load.read.count(name), name, "is no part of this model's states");
  check_layers(check);
}

int64_t saved_rows(const SafetensorsFile& file) {
  const std::vector<int64_t>& shape = file.entry("state.age").shape;
  StateCheck(file.path()).require(shape.size() == 1 && shape[0] > 0, "state.age", "does not list the rows of a batch");
  return shape[0];
}

}  // namespace lem
