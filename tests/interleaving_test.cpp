// Documents share a model and nothing else: read in turns, in any order, between calls that fail, each gives the bits
// that it gives alone.
#include <functional>
#include <memory>

#include "tests/catch.h"
#include "tests/scratch.h"
#include "tests/small_model.h"

using namespace lem;
using namespace lem::test;

namespace {

constexpr int64_t kStm = 4;

struct Piece {
  Tokens tokens;  // (B, T)
  int64_t outputs;
  enum { read, record, learn } mode;  // without the tape, with it, and back through it
};
using Numbers = std::vector<std::vector<real>>;

/// A document a row, cut into segments of any lengths, and how far it has been read.
struct Reading {
  Reading(const lem::Model& model, uint64_t number) : random{100 + number, 0} {
    Dice dice{{31, number}};
    const int64_t B = 1 + dice.below(2), segments = 1 + dice.below(6);
    state = model.new_state(B);
    std::vector<Random> documents;
    for (int64_t b = 0; b < B; ++b) documents.push_back(random.child(uint64_t(b)));
    state->draw_from(documents);
    for (int64_t s = 0; s < segments; ++s) {
      const int64_t T = 1 + dice.below(2 * kStm);
      std::vector<int32_t> ids;
      for (int64_t i = 0; i < B * T; ++i) ids.push_back(int32_t(dice.below(kVocab)));
      const int64_t outputs = dice.below(2) == 0 ? 0 : 1 + dice.below(T);
      segments_.push_back({Tokens::from(ids, {B, T}), outputs, decltype(Piece::mode)(dice.below(3))});
    }
  }
  bool done() const { return next == segments_.size(); }
  const Piece& segment() const { return segments_[next]; }
  Pass pass(uint64_t weights) { return {.training = true, .random = &random, .weights = weights}; }

  /// Reads the next segment and keeps all numbers that come of it.
  void read(Net& net, uint64_t weights) {
    const Piece& s = segments_[next++];
    std::unique_ptr<NoGrad> no_grad;
    if (s.mode == Piece::read) no_grad = std::make_unique<NoGrad>();
    const test::Answer out = test::read(*net.model, {s.tokens}, *state, pass(weights), s.outputs);
    if (out.logits.defined()) numbers.push_back(out.logits.value().to_vector());
    if (out.kl.defined()) numbers.push_back(out.kl.value().to_vector());
    if (s.mode != Piece::learn || s.outputs == 0) return;
    net.parameters.zero_grad();
    const Variable logits = out.logits;
    const Variable loss = weighted_sum(logits, full(logits.shape(), real(.1), Device::cpu));
    backward(out.kl.defined() ? add(loss, out.kl) : loss);
    numbers.push_back(net.parameters.grads().to_vector());
  }

  std::vector<Piece> segments_;
  size_t next = 0;
  std::unique_ptr<State> state;
  Random random;
  Numbers numbers;
};

/// Asks for a segment in ways that fail: at once, in the embedding, in the middle of the layers. Nothing may come of
/// it.
void fail_to_read(Net& net, Reading& reading, uint64_t weights, Dice& dice) {
  const Piece& s = reading.segment();
  const Random before = reading.random;
  const auto forward = [&](const Tokens& tokens, int64_t outputs) {
    test::read(*net.model, {tokens}, *reading.state, reading.pass(weights), outputs);
  };
  switch (dice.below(3)) {
    case 0:
      CHECK_THROWS_AS(forward(s.tokens, s.tokens.dim(1) + 1), Error);
      break;
    case 1:
      CHECK_THROWS_AS(forward(Tokens::from({0, kVocab, 1, 2}, {s.tokens.dim(0), 4 / s.tokens.dim(0)}), 0), Error);
      break;
    case 2: {  // layer 1's first norm is not finite, and the tape watches
      for (const Parameters::Named& p : net.parameters.named()) {
        if (p.name != "layers.1.norm1.gamma") continue;
        const Tensor good = p.value.clone();
        on(Device::cpu).fill(p.value.data(), real(NAN), p.value.numel());
        tape().detect_anomaly = true;
        CHECK_THROWS_AS(forward(s.tokens, s.tokens.dim(1)), Error);
        tape().detect_anomaly = false;
        p.value.copy_from(good);
      }
    }
  }
  reading.random = before;
}

struct Variant {
  const char* name;
  bool memory;
  std::function<void(TransformerOptions&, MemoryOptions&)> set;
};

const Variant kModels[] = {
    {"Transformer-XL", false, [](auto&, auto&) {}},
    {"Transformer-XL, no short-term memory", false, [](auto& t, auto&) { t.stm = 0; }},
    {"Transformer-XL, pre-norm, same length", false, [](auto& t, auto&) { t.pre_norm = t.same_length = true; }},
    {"∞-former", true, [](auto&, auto&) {}},
    {"∞-former, dropout", true, [](auto& t, auto&) { t.dropout = t.attention_dropout = .2; }},
    {"∞-former, no short-term memory", true, [](auto& t, auto&) { t.stm = 0; }},
    {"∞-former, pre-norm", true, [](auto& t, auto&) { t.pre_norm = true; }},
    {"∞-former, sticky", true, [](auto&, auto& m) { m.sticky = true; }},
    {"∞-former, gradient through three updates", true, [](auto&, auto& m) { m.grad_updates = 3; }},
    {"∞-former, sticky, gradient through three updates", true,
     [](auto&, auto& m) { m.sticky = true, m.grad_updates = 3; }},
    {"∞-former, gibbs", true, [](auto&, auto& m) { m.density = MemoryDensity::gibbs, m.grid = 51; }},
    {"∞-former, moments, learned gate", true,
     [](auto&, auto& m) { m.parameters = MemoryParameters::moments, m.learned_gate = true; }},
};

}  // namespace

TEST_CASE("documents read in turns on one model give what each gives alone", "[model]") {
  for (const Variant& variant : kModels) {
    TransformerOptions t = {
        .vocab = kVocab, .layers = 2, .width = 8, .heads = 2, .ff = 12, .stm = kStm, .dropout = 0, .init_std = .4};
    MemoryOptions m;
    m.N = 6, m.widths = {.1, .3}, m.R = 9, m.sigma2_min = 1e-4;
    variant.set(t, m);
    const MemoryOptions* memory = variant.memory ? &m : nullptr;
    constexpr uint64_t kDocuments = 8;
    Numbers alone[kDocuments];
    for (uint64_t d = 0; d < kDocuments; ++d) {
      Net net(t, memory);
      Reading reading(*net.model, d);
      while (!reading.done()) reading.read(net, d + 1);
      alone[d] = reading.numbers;
    }

    for (uint64_t order = 0; order < 12; ++order) {
      INFO(variant.name << ", order " << order);
      Net net(t, memory);
      Dice dice{{32, order}};
      const uint64_t weights = dice.below(2) ? new_weights_number() : 0;
      std::vector<std::unique_ptr<Reading>> readings(kDocuments);
      for (int left = kDocuments; left > 0;) {
        const auto d = size_t(dice.below(kDocuments));
        if (!readings[d]) readings[d] = std::make_unique<Reading>(*net.model, d);
        Reading& reading = *readings[d];
        if (reading.done()) continue;
        if (dice.below(4) == 0) fail_to_read(net, reading, weights, dice);
        reading.read(net, weights);
        left -= reading.done();
      }
      for (size_t d = 0; d < kDocuments; ++d) {
        INFO("document " << d);
        REQUIRE(readings[d]->numbers.size() == alone[d].size());
        for (size_t i = 0; i < alone[d].size(); ++i) REQUIRE(readings[d]->numbers[i] == alone[d][i]);
      }
      tape().clear();
    }
  }
}
