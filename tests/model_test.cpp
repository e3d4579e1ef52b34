// Whole models: gradients of every variant against finite differences, the exact shortcuts against the plain way, and
// the state as a value: cleared by row, copied, saved, restored.
#include <cmath>
#include <functional>
#include <memory>

#include "models/documents.h"
#include "tests/catch.h"
#include "tests/scratch.h"
#include "tests/small_model.h"

using namespace lem;
using namespace lem::test;

namespace {

constexpr int64_t kB = 2, kN = 25, kT = 5;

std::vector<Random> documents(uint64_t seed) { return {Random{seed}.child(0), Random{seed}.child(1)}; }

std::unique_ptr<State> new_state(const Net& net) {
  std::unique_ptr<State> state = net.model->new_state(kB);
  state->draw_from(documents(1));
  return state;
}

DocumentBatch random_batch() {
  const Stream stream{9, 9};
  DocumentBatch batch{kB, kN, 0, {}, {}};
  for (int64_t i = 0; i < kB * kN; ++i) {
    batch.tokens.push_back(int32_t(stream.bits(uint64_t(i)) % kVocab));
    batch.targets.push_back(i % kN < kN - 4 ? -1 : int32_t(stream.bits(uint64_t(1000 + i)) % kVocab));
  }
  return batch;
}

/// The last segment of random_batch, and the state before it. That state is a constant: no gradient flows into earlier
/// segments, so finite differences must hold it, too.
struct LastSegment {
  explicit LastSegment(Net& net) {
    if (auto* infinity = dynamic_cast<InfinityFormer*>(net.model.get()))
      infinity->points_for_update = [](int) {  // sticky points would jump with the weights: a fixed rule instead
        std::vector<real> points;
        for (int64_t b = 0; b < kB; ++b)
          for (int i = 1; i <= 9; ++i) points.push_back(real(std::pow(i / 9.0, double(b) + 1.5)));
        return Tensor::from(points, {kB, 9});
      };
    const DocumentBatch all = random_batch();
    DocumentBatch earlier{kB, kN - kT, 0, {}, {}};
    last = {kB, kT, 0, {}, {}};
    for (int64_t b = 0; b < kB; ++b)
      for (int64_t i = 0; i < kN; ++i) {
        DocumentBatch& part = i < kN - kT ? earlier : last;
        part.tokens.push_back(all.tokens[size_t(b * kN + i)]);
        part.targets.push_back(all.targets[size_t(b * kN + i)]);
      }
    Random random{3, 0};
    state = net.model->new_state(kB);
    read_documents(*net.model, earlier, kT, {true, &random}, false, state.get());
  }
  /// Loss with the regulariser; with `learn` its gradients, too.
  double loss(Net& net, bool learn) const {
    const std::unique_ptr<State> from = state->clone();
    Random random{3, 1000};
    const BatchResult r = read_documents(*net.model, last, kT, {true, &random}, learn, from.get());
    return r.loss() + .01 * r.auxiliary()["kl"];
  }
  std::unique_ptr<State> state;
  DocumentBatch last;
};

/// The directional derivative of the loss along a random direction in the space of all parameters, by central
/// differences of fourth order.
void check_gradient(Net& net) {
  const LastSegment segment(net);
  net.parameters.zero_grad();
  segment.loss(net, true);
  const std::vector<real> start = net.parameters.values().to_vector(), grad = net.parameters.grads().to_vector();
  const Stream stream{11, 1};
  double got = 0;
  std::vector<double> direction(start.size());
  for (size_t i = 0; i < start.size(); ++i) direction[i] = stream.normal(i), got += direction[i] * grad[i];
  const auto at = [&](double step) {
    std::vector<real> moved(start);
    for (size_t i = 0; i < start.size(); ++i) moved[i] = real(start[i] + step * direction[i]);
    net.parameters.values().copy_from(Tensor::from(moved, {int64_t(moved.size())}));
    const double value = segment.loss(net, false);
    net.parameters.values().copy_from(Tensor::from(start, {int64_t(start.size())}));
    return value;
  };
  const double h = 1e-6;  // so small that no ReLU has its kink between the points: the differences still have 8 digits
  const double expected = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
  INFO("got " << got << ", expected " << expected);
  REQUIRE(std::abs(got - expected) <= 1e-7 * std::max(1.0, std::abs(expected)));
}

}  // namespace

TEST_CASE("gradients of whole models agree with finite differences", "[model]") {
  if (!kDouble) return;  // float has not the digits for it
  TransformerOptions t = small_transformer();
  MemoryOptions m = small_memory();
  struct Variant {
    const char* name;
    std::function<void(TransformerOptions&, MemoryOptions&)> set;
  };
  const Variant variants[] = {
      {"default", [](auto&, auto&) {}},
      {"dropout everywhere", [](auto& t, auto&) { t.dropout = .2, t.attention_dropout = .2; }},
      {"pre-norm", [](auto& t, auto&) { t.pre_norm = true; }},
      {"untied u, w and output", [](auto& t, auto&) { t.untie_uw = true, t.tie_embedding = false; }},
      {"same length, clamped distances", [](auto& t, auto&) { t.same_length = true, t.clamp_len = 3; }},
      {"no short-term memory", [](auto& t, auto&) { t.stm = 0; }},
      {"sticky", [](auto&, auto& m) { m.sticky = true; }},
      {"per head", [](auto&, auto& m) { m.parameters = MemoryParameters::affine_per_head; }},
      {"moments", [](auto&, auto& m) { m.parameters = MemoryParameters::moments; }},
      {"truncated", [](auto&, auto& m) { m.density = MemoryDensity::truncated_gaussian; }},
      {"parabola", [](auto&, auto& m) { m.density = MemoryDensity::parabola; }},
      {"gibbs", [](auto&, auto& m) { m.density = MemoryDensity::gibbs, m.grid = 51; }},
      {"no gate, no padding, prior mean", [](auto&, auto& m) { m.gate = false, m.padding = false, m.mu0 = .3; }},
      {"learned gate", [](auto&, auto& m) { m.learned_gate = true; }},
      {"gradient through three updates", [](auto&, auto& m) { m.grad_updates = 3; }},
      {"cosine basis", [](auto&, auto& m) { m.basis = BasisKind::cosine; }},
      {"rectangle basis", [](auto&, auto& m) { m.basis = BasisKind::rectangle; }},
  };
  for (const Variant& v : variants) {
    DYNAMIC_SECTION("∞-former, " << v.name) {
      v.set(t, m);
      Net net(t, &m);
      check_gradient(net);
    }
  }
  SECTION("Transformer-XL") {
    Net net(t, nullptr);
    check_gradient(net);
  }
}

TEST_CASE("gradient through the last k updates is more than that through one, and leaves the loss alone", "[model]") {
  MemoryOptions m = small_memory();
  const auto run = [&](int64_t k) {
    m.grad_updates = k;
    Net net(small_transformer(), &m);
    const LastSegment segment(net);
    const double loss = segment.loss(net, true);
    std::vector<real> gate;
    for (const Parameters::Named& p : net.parameters.named())
      if (p.name == "layers.0.memory.gate.weight") gate = p.grad.to_vector();
    return std::pair(loss, gate);
  };
  const auto one = run(1), three = run(3), all = run(100);
  CHECK(one.second != three.second);
  CHECK(three.second != all.second);
  CHECK(three.first == Approx(one.first).epsilon(kDouble ? 1e-12 : 1e-5));
  CHECK(all.first == Approx(one.first).epsilon(kDouble ? 1e-12 : 1e-5));
}

TEST_CASE("asking for fewer outputs changes none of those that are left", "[model]") {
  const bool sticky = GENERATE(false, true);
  MemoryOptions m = small_memory();
  m.sticky = sticky;
  Net net(small_transformer(), &m);
  const DocumentBatch batch = random_batch();
  const NoGrad no_grad;
  const auto all = new_state(net), few = new_state(net);
  for (int64_t begin = 0, segment = 0; begin + kT <= kN; begin += kT, ++segment) {
    std::vector<int32_t> ids;
    for (int64_t b = 0; b < kB; ++b)
      ids.insert(ids.end(), batch.tokens.begin() + b * kN + begin, batch.tokens.begin() + b * kN + begin + kT);
    const Tokens tokens = Tokens::from(ids, {kB, kT});
    const int64_t outputs = segment % 3;
    const Variable full = test::read(*net.model, {tokens}, *all, {}, kT).logits;
    const Variable part = test::read(*net.model, {tokens}, *few, {}, outputs).logits;
    if (outputs == 0) continue;
    const std::vector<real> expected = slice_time(full.value(), kT - outputs, outputs).to_vector(),
                            got = part.value().to_vector();
    for (size_t i = 0; i < got.size(); ++i)
      REQUIRE(got[i] == Approx(expected[i]).epsilon(kDouble ? 1e-10 : 1e-4).margin(kDouble ? 1e-12 : 1e-5));
  }
}

TEST_CASE("keys and values kept while the weights stay the same change nothing", "[model]") {
  TransformerOptions t = small_transformer();
  t.stm = GENERATE(5, 3, 7);  // a segment long, shorter, longer
  t.pre_norm = GENERATE(false, true);
  MemoryOptions m = small_memory();
  Net net(t, &m);
  // The loss of all four segments' ends, and its gradients, read with this number for the weights before and after they
  // change. The last layer has no keys of its segments without outputs.
  const auto run = [&](uint64_t before, uint64_t after) {
    const DocumentBatch batch = random_batch();
    const std::vector<real> start = net.parameters.values().to_vector();
    net.parameters.zero_grad();
    Random random{3, 0};
    const std::unique_ptr<State> state = net.model->new_state(kB);
    for (int64_t segment = 0; segment < 5; ++segment) {
      if (segment == 2)  // other weights
        on(Device::cpu)
            .scale(net.parameters.values().data(), real(1.25), net.parameters.values().data(),
                   net.parameters.values().numel());
      std::vector<int32_t> ids;
      for (int64_t b = 0; b < kB; ++b)
        for (int64_t i = 0; i < kT; ++i) ids.push_back(batch.tokens[size_t(b * kN + segment * kT + i)]);
      const Pass pass{.training = true, .random = &random, .weights = segment < 2 ? before : after};
      const int64_t outputs = segment % 2 == 0 ? kT : 0;
      const Variable logits = test::read(*net.model, {Tokens::from(ids, {kB, kT})}, *state, pass, outputs).logits;
      CHECK(test::short_term(*state)[0]->kept.k.defined() == (pass.weights != 0));
      if (outputs > 0) backward(cross_entropy(logits, Tokens::from(ids, {kB * kT}), 1));
      tape().clear();
    }
    std::vector<real> grads = net.parameters.grads().to_vector();
    net.parameters.values().copy_from(Tensor::from(start, {int64_t(start.size())}));
    return grads;
  };
  const std::vector<real> plain = run(0, 0), kept = run(1, 2);
  real largest = 0;
  for (real g : plain) {
    REQUIRE(std::isfinite(g));
    largest = std::max(largest, std::abs(g));
  }
  for (size_t i = 0; i < plain.size(); ++i)
    REQUIRE(kept[i] == Approx(plain[i]).epsilon(kDouble ? 1e-11 : 1e-4).margin(largest * (kDouble ? 1e-13 : 1e-5)));
}

namespace {

/// Logits of a segment of random tokens that depend on `which`; the state moves on.
std::vector<real> read_segment(Net& net, State& state, uint64_t which) {
  const NoGrad no_grad;
  std::vector<int32_t> ids;
  for (uint64_t i = 0; i < kB * kT; ++i) ids.push_back(int32_t(Stream{77, which}.bits(i) % kVocab));
  return test::read(*net.model, {Tokens::from(ids, {kB, kT})}, state, {}, kT).logits.value().to_vector();
}

}  // namespace

TEST_CASE("clearing a row starts a new document there and nowhere else", "[model]") {
  MemoryOptions m = small_memory();
  m.sticky = GENERATE(false, true);
  TransformerOptions t = small_transformer();
  t.stm = GENERATE(5, 3, 7);  // whole segments leave, or parts of them
  Net net(t, &m);
  const auto state = new_state(net);
  for (uint64_t s = 0; s < 4; ++s) read_segment(net, *state, s);
  const auto other = state->clone(), fresh = new_state(net);
  state->clear_row(1);
  if (m.sticky)
    for (size_t l = 0; l < 2; ++l)
      test::infinity_layers(*state)[l].ltm.random[1] = test::infinity_layers(*fresh)[l].ltm.random[1];
  const int64_t row = kT * kVocab;
  for (uint64_t s = 10; s < 14; ++s) {
    const auto cleared = read_segment(net, *state, s), kept = read_segment(net, *other, s),
               begun = read_segment(net, *fresh, s);
    for (int64_t i = 0; i < row; ++i) {
      INFO("segment " << s << ", logit " << i);
      REQUIRE(cleared[size_t(i)] == kept[size_t(i)]);
      // The fresh state's matrices are smaller at first, and a sum may run in another order.
      REQUIRE(cleared[size_t(row + i)] ==
              Approx(begun[size_t(row + i)]).epsilon(kDouble ? 1e-12 : 1e-5).margin(kDouble ? 1e-12 : 1e-6));
    }
  }
  const std::vector<int64_t>& count = test::infinity_layers(*state)[0].ltm.count;
  CHECK(count[1] < count[0]);
}

TEST_CASE("a row is the same bit for bit whatever its neighbour reads, NaN included", "[model]") {
  TransformerOptions t = small_transformer();
  t.stm = GENERATE(5, 3, 0);
  t.pre_norm = GENERATE(false, true);
  MemoryOptions m = small_memory();
  m.sticky = GENERATE(false, true);
  if (GENERATE(false, true)) m.sticky = false, m.density = MemoryDensity::gibbs, m.grid = 51;
  Net net(t, &m);
  const NoGrad no_grad;
  const Pass pass{.weights = new_weights_number()};
  const auto forward = [&](State& state, uint64_t segment, uint64_t neighbour) {
    std::vector<int32_t> ids;
    for (uint64_t row : {uint64_t(0), neighbour})
      for (uint64_t i = 0; i < kT; ++i) ids.push_back(int32_t(Stream{row, segment}.bits(i) % kVocab));
    return test::read(*net.model, {Tokens::from(ids, {kB, kT})}, state, pass, kT).logits.value().to_vector();
  };
  const size_t row = kT * kVocab;
  const auto one = new_state(net), other = new_state(net), broken = new_state(net);
  for (uint64_t s = 0; s < 10; ++s) {
    if (s == 4) {  // a document's numbers have come apart
      for (ShortTermState* stm : test::short_term(*broken)) {
        const Tensor recent = stm->recent.slice(1, 2);
        on(Device::cpu).fill(recent.data(), real(NAN), recent.numel());
      }
    }
    if (s == 7) one->clear_row(1), broken->clear_row(1);  // and nothing of that is left to the next one
    if (s == 7)
      for (size_t l = 0; l < 2; ++l)
        test::infinity_layers(*broken)[l].ltm.random = test::infinity_layers(*one)[l].ltm.random;
    const auto a = forward(*one, s, 1), b = forward(*other, s, 2), c = forward(*broken, s, 1);
    INFO("segment " << s);
    CHECK(std::equal(a.begin(), a.begin() + row, b.begin()));
    CHECK(!std::equal(a.begin() + row, a.end(), b.begin() + row));
    CHECK(std::equal(a.begin(), a.begin() + row, c.begin()));
    if (s == 6) CHECK(std::isnan(c.back()));
    if (s >= 7) CHECK(std::equal(a.begin() + row, a.end(), c.begin() + row));
  }
}

TEST_CASE("a state is a value: copied, saved and restored", "[model]") {
  MemoryOptions m = small_memory();
  m.sticky = true;
  m.grad_updates = GENERATE(1, 3);
  Net net(small_transformer(), &m);
  const auto state = new_state(net);
  for (uint64_t s = 0; s < 4; ++s) read_segment(net, *state, s);
  const auto copy = state->clone();
  const ScratchFolder scratch;
  SafetensorsWriter writer;
  state->save(writer);
  writer.write(scratch / "state.safetensors");

  const auto expected = read_segment(net, *state, 50);  // moves `state`, and must leave `copy` alone
  const auto copied = copy->clone(), restored = read_state(SafetensorsFile(scratch / "state.safetensors"), *net.model);
  CHECK(read_segment(net, *copied, 50) == expected);
  CHECK(read_segment(net, *restored, 50) == expected);
  CHECK(read_segment(net, *restored, 51) == read_segment(net, *state, 51));
  CHECK(state->bytes() == restored->bytes());
}

TEST_CASE("a sticky memory without usable mass is read all the same, counted and warned of", "[model]") {
  MemoryOptions m = small_memory();
  m.sticky = true;
  Net net(small_transformer(), &m);
  const auto state = new_state(net);
  for (uint64_t s = 0; s < 4; ++s) read_segment(net, *state, s);
  CHECK(net.model->warning().empty());

  // Densities of row 1 of the second layer that look nowhere: Gaussians far outside [0, 1].
  Tensor& density = test::infinity_layers(*state)[1].ltm.density;
  std::vector<real> values = density.to_vector();
  const size_t row = values.size() / 2 / kB;  // (2, B, H, T): means, then variances
  for (size_t i = 0; i < row; ++i) values[row + i] = 1e6;
  density = Tensor::from(values, density.shape());
  read_segment(net, *state, 4);
  CHECK_THAT(net.model->warning(), Catch::EndsWith("uniform points: 1 time"));
  read_segment(net, *state, 5);
  CHECK_THAT(net.model->warning(), Catch::EndsWith("uniform points: 1 time"));
}

TEST_CASE("models can be evaluated with other segments than they were trained with", "[model]") {
  MemoryOptions m = small_memory();
  TransformerOptions t = small_transformer();
  t.stm = GENERATE(0, 3, 50);
  Net net(t, &m);
  Random random{1, 0};
  for (int64_t T : {1, 7, 25}) {
    const BatchResult r = read_documents(*net.model, random_batch(), T, {false, &random}, false);
    CHECK(std::isfinite(r.loss()));
    CHECK(r.scored() == kB * 4);
  }
}

TEST_CASE("a model refuses what is not its own", "[model]") {
  const MemoryOptions m = small_memory();
  TransformerOptions deeper = small_transformer();
  deeper.layers = 3;
  Net net(small_transformer(), &m), other(deeper, &m), plain(small_transformer(), nullptr);
  const auto error = [&](const Net& from) {
    const auto state = from.model->new_state(kB);
    return error_of([&] {
      for (uint64_t s = 0; s < 3; ++s) read_segment(net, *state, s);
    });
  };
  CHECK(error(net) == "(no error)");
  CHECK_THAT(error(other), Catch::StartsWith("[model] the state is another model's: got 3 layers, expected 2"));
  CHECK_THAT(error(plain), Catch::StartsWith("[model] the state is another kind of model's"));
  dynamic_cast<InfinityFormer&>(*net.model).points_for_update = [](int) { return zeros({kB, 3}, Device::cpu); };
  CHECK_THAT(error(net), Catch::StartsWith("[memory] points") && Catch::Contains("got (2, 3), expected (2, 9)"));
}

TEST_CASE("impossible models are refused", "[model]") {
  const auto error = [](auto set) {
    TransformerOptions t = small_transformer();
    MemoryOptions m = small_memory();
    set(t, m);
    return error_of([&] { Net(t, &m); });
  };
  CHECK_THAT(error([](auto& t, auto&) { t.width = 9; }), Catch::Contains("got width 9 and 2 heads"));
  CHECK_THAT(error([](auto& t, auto&) { t.width = 3, t.heads = 1; }), Catch::Contains("width must be even"));
  CHECK_THAT(error([](auto&, auto& m) { m.N = 7; }), Catch::Contains("7"));
  CHECK_THAT(error([](auto&, auto& m) { m.tau = 1; }), Catch::Contains("tau"));
  CHECK_THAT(error([](auto&, auto& m) { m.sticky = true, m.density = MemoryDensity::gibbs; }),
             Catch::Contains("sticky"));
}
