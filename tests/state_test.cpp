// Saved states that are not what they should be: other models', of wrong shapes, cut off, with flipped bits. Each gives
// an Error, or a state that the model can read on from without touching memory that is not its own.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <map>
#include <memory>

#include "tests/catch.h"
#include "tests/file_helpers.h"
#include "tests/scratch.h"
#include "tests/small_model.h"

using namespace lem;
using namespace lem::test;
using Catch::Contains;

namespace {

constexpr int64_t kB = 2, kT = 5;

MemoryOptions memory() {
  MemoryOptions m = small_memory();
  m.sticky = true, m.grad_updates = 3;
  return m;
}
const MemoryOptions kMemory = memory();

void read_segment(const Net& net, State& state, uint64_t which) {
  const NoGrad no_grad;
  std::vector<int32_t> ids;
  for (uint64_t i = 0; i < uint64_t(state.rows()) * kT; ++i) ids.push_back(int32_t(Stream{77, which}.bits(i) % kVocab));
  read(*net.model, {Tokens::from(ids, {state.rows(), kT})}, state, {}, kT);
}
/// A state of two rows after some segments, the second row's document younger than the first's.
std::unique_ptr<State> some_state(const Net& net) {
  std::unique_ptr<State> state = net.model->new_state(kB);
  state->draw_from({Random{1}.child(0), Random{1}.child(1)});
  for (uint64_t s = 0; s < 3; ++s) read_segment(net, *state, s);
  state->clear_row(1);
  for (uint64_t s = 3; s < 5; ++s) read_segment(net, *state, s);
  return state;
}

/// A file of this state, read by this model: its Error, or "(no error)" if that has happened and the model can go on.
class File {
 public:
  std::string path() const { return folder_ / "state.safetensors"; }
  void save(const State& state) const {
    SafetensorsWriter writer;
    state.save(writer);
    writer.write(path());
  }
  std::string error(const Net& net) const {
    return error_of([&] {
      const std::unique_ptr<State> state = read_state(SafetensorsFile(path()), *net.model);
      for (uint64_t s = 10; s < 12; ++s) read_segment(net, *state, s);
    });
  }

 private:
  ScratchFolder folder_;
};

/// What a model says of a good state in which `damage` has changed something.
template <class Damage>
std::string damaged(const Net& net, Damage damage) {
  const std::unique_ptr<State> state = some_state(net);
  damage(*state);
  const File file;
  file.save(*state);
  return file.error(net);
}

ShortTermState& stm(State& s, size_t l) { return *short_term(s)[l]; }
MemoryState& ltm(State& s, size_t l) { return infinity_layers(s)[l].ltm; }

void set(Tensor& tensor, size_t i, real value) {
  std::vector<real> values = tensor.to_vector();
  values.at(i) = value;
  tensor = Tensor::from(values, tensor.shape());
}

}  // namespace

TEST_CASE("a state of another model is refused", "[state]") {
  const Net net(small_transformer(), &kMemory);
  CHECK(damaged(net, [](State&) {}) == "(no error)");
  const File file;
  file.save(*some_state(net));
  const auto error = [&](auto change) {
    TransformerOptions t = small_transformer();
    MemoryOptions m = memory();
    change(t, m);
    return file.error(Net(t, &m));
  };
  CHECK_THAT(error([](auto& t, auto&) { t.width = 12; }),
             Contains("\"state.0.recent\"") && Contains("got shape (2, 9, 8), expected (2, 9, 12)"));
  CHECK_THAT(error([](auto& t, auto&) { t.layers = 1; }), Contains("state.1.") && Contains("is no part of this model"));
  CHECK_THAT(error([](auto& t, auto&) { t.layers = 3; }), Contains("no entry \"state.2.count\""));
  CHECK_THAT(error([](auto& t, auto&) { t.heads = 4; }), Contains("density") && Contains("expected (2, 2, 4, 5)"));
  CHECK_THAT(error([](auto&, auto& m) { m.N = 8; }), Contains("coeffs") && Contains("expected (2, 8, 8)"));
  CHECK_THAT(error([](auto&, auto& m) { m.R = 10; }), Contains("points") && Contains("expected (2, 10)"));
  CHECK_THAT(error([](auto&, auto& m) { m.grad_updates = 1; }), Contains("is no part of this model"));
  CHECK_THAT(error([](auto&, auto& m) { m.sticky = false, m.density = MemoryDensity::gibbs; }),
             Contains("density") && Contains("is no part of this model"));
  CHECK_THAT(file.error(Net(small_transformer())), Contains("state.0.base") && Contains("is no part of this model"));
  const Net plain(small_transformer());
  CHECK(damaged(plain, [](State&) {}) == "(no error)");
  file.save(*some_state(plain));
  CHECK_THAT(file.error(net), Contains("no entry \"state.0.count\""));
}

TEST_CASE("a state that cannot be is refused", "[state]") {
  const Net net(small_transformer(), &kMemory);
  struct Damage {
    const char* what;
    std::function<void(State&)> damage;
    const char* error;
  };
  const Damage table[] = {
      {"a row more", [](State& s) { s.age.push_back(1); }, "got shape (2, 9, 8), expected (3, 9, 8)"},
      {"a negative count", [](State& s) { s.age[0] = -1; }, "state.age holds -1"},
      {"more than was read", [](State& s) { s.age[0] += 1; }, "state.0.count does not go with"},
      {"a count", [](State& s) { ltm(s, 1).count[1] += 1; }, "state.1.count does not go with"},
      {"a step less", [](State& s) { stm(s, 1).recent = slice_time(stm(s, 1).recent, 1, 8); },
       "state.1.count does not go with"},
      {"fewer steps in one layer", [](State& s) { stm(s, 1).recent = slice_time(stm(s, 1).recent, 0, 4); },
       "state.1.count does not go with"},
      {"no steps", [](State& s) { stm(s, 0).recent = slice_time(stm(s, 0).recent, 0, 0); }, "expected (2, 1, 8)"},
      {"NaN", [](State& s) { set(stm(s, 1).recent, 3, real(NAN)); }, "state.1.recent holds a number that is not"},
      {"infinity", [](State& s) { set(ltm(s, 0).coeffs, 3, real(INFINITY)); }, "coeffs holds a number"},
      {"no coefficients", [](State& s) { ltm(s, 0).coeffs = {}; }, "state.0.coeffs is missing"},
      {"no densities", [](State& s) { ltm(s, 0).density = {}; }, "state.0.density is missing"},
      {"a variance of 0", [](State& s) { set(ltm(s, 0).density, 39, 0); }, "variance that is not positive"},
      {"no random numbers", [](State& s) { ltm(s, 0).random.clear(); }, "[memory] sticky memories draw"},
      {"random numbers for one row", [](State& s) { ltm(s, 0).random.pop_back(); }, "random.seed"},
      {"too many newcomers", [](State& s) { ltm(s, 0).history[0].newcomers[0] = 6; }, "expected 0 … 5"},
      {"a gap", [](State& s) { ltm(s, 0).history[1].newcomers[0] = 4; }, "leaves a gap"},
      {"a point beyond 1", [](State& s) { set(ltm(s, 0).history[1].points, 3, 2); }, "outside [0, 1]"},
      {"another document's steps", [](State& s) { s.clear_row(1), set(stm(s, 0).recent, 100, 1); },
       "state.0.recent holds something where there is no document"},
      {"another document's coefficients", [](State& s) { s.clear_row(1), set(ltm(s, 0).coeffs, 60, 1); },
       "state.0.coeffs holds something where there is no document"},
  };
  for (const Damage& d : table) {
    INFO(d.what);
    CHECK_THAT(damaged(net, d.damage), Contains(d.error));
  }
}

TEST_CASE("no damaged file of a state makes a model read what is not its own", "[state]") {
  const bool long_term = GENERATE(false, true);
  const Net net(small_transformer(), long_term ? &kMemory : nullptr);
  const File file;
  file.save(*some_state(net));
  const std::string whole = read_whole(file.path());
  const uint64_t header = 8 + uint64_t(uint8_t(whole[0])) + (uint64_t(uint8_t(whole[1])) << 8);
  const Stream stream{41, long_term};
  int refused = 0;
  constexpr int kTimes = 1500;
  for (uint64_t i = 0, next = 0; i < kTimes; ++i) {
    const auto below = [&](uint64_t n) { return stream.bits(next++) % n; };
    std::string bytes = whole;
    switch (below(4)) {
      case 0:
        bytes.resize(below(bytes.size()));
        break;
      case 1:  // a digit of some shape, name or offset
        for (uint64_t at = below(header), left = header; left > 0; --left, at = (at + 1) % header)
          if (std::isdigit(uint8_t(bytes[at]))) {
            bytes[at] = char('0' + below(10));
            break;
          }
        break;
      default:
        for (uint64_t flips = 1 + below(3); flips > 0; --flips) {
          const uint64_t at = below(2) ? below(header) : below(bytes.size());
          bytes[at] = char(uint8_t(bytes[at]) ^ (1u << below(8)));
        }
    }
    write_whole(file.path(), bytes);
    refused += file.error(net) != "(no error)";  // anything but an Error ends the test
  }
  CHECK(refused > kTimes / 2);
  CHECK(refused < kTimes);
}

TEST_CASE("no file of right form and wrong shapes makes a model read what is not its own", "[state]") {
  const Net net(small_transformer(), &kMemory);
  const File file;
  file.save(*some_state(net));
  const SafetensorsFile good(file.path());
  std::map<std::string, std::vector<char>> data;
  for (const std::string& name : good.names()) {
    const Entry& e = good.entry(name);
    data[name].resize(e.end - e.begin);
    good.read(name, data[name].data(), e.dtype, e.shape);
  }
  const Stream stream{43, 0};
  for (uint64_t i = 0, next = 0; i < 600; ++i) {
    const auto below = [&](uint64_t n) { return stream.bits(next++) % n; };
    const uint64_t damaged = below(data.size());
    SafetensorsWriter writer;
    uint64_t at = 0;
    std::string what;
    for (auto& [name, bytes] : data) {
      Entry e = good.entry(name);
      if (at++ == damaged) {
        what = name;
        switch (below(3)) {
          case 0:
            continue;  // left out
          case 1:
            std::next_permutation(e.shape.begin(), e.shape.end());
            break;
          default:
            e.shape[below(e.shape.size())] = int64_t(below(12));
        }
      }
      const size_t size = size_t(*byte_count(e.dtype, e.shape));
      writer.add(name, e.dtype, e.shape, [source = bytes, size](const SafetensorsWriter::Sink& sink) {
        std::vector<char> enough = source;
        enough.resize(size);
        sink(enough.data(), size);
      });
    }
    writer.write(file.path());
    const bool same = SafetensorsFile(file.path()).names() == good.names() &&
                      SafetensorsFile(file.path()).entry(what).shape == good.entry(what).shape;
    INFO(what);
    // How many densities the last segment left, a file may say.
    const bool free = what.ends_with("density") && SafetensorsFile(file.path()).contains(what);
    const std::string error = file.error(net);
    if (!same && !free) CHECK(error != "(no error)");
  }
}
