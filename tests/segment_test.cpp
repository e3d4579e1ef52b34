// Documents of any lengths side by side in a batch, for every model: each begins with a segment, ends anywhere in one,
// and gives the numbers that it gives alone.
#include <functional>
#include <memory>

#include "tests/catch.h"
#include "tests/scratch.h"
#include "tests/small_model.h"

namespace lem {
namespace {

using test::Dice, test::kVocab;

constexpr int64_t kT = 5;

/// What a document gave: the logits of all its steps, one after the other, and Σ KL · steps where it was counted.
struct Numbers {
  std::vector<real> logits;
  double kl = 0;
};
using Document = std::vector<int32_t>;

/// Reads the documents, the next one wherever a row has come to an end of its own, and tells what each gave.
std::vector<Numbers> read_all(const Model& model, const std::vector<Document>& documents, int64_t B, bool sticky) {
  const NoGrad no_grad;
  std::vector<Numbers> numbers(documents.size());
  std::vector<int64_t> current(size_t(B), -1), at(size_t(B), 0);  // a row's document and its next step
  size_t next = 0;
  const std::unique_ptr<State> state = model.new_state(B);
  for (;;) {
    Segment segment;
    std::vector<int32_t> ids;
    segment.lengths.assign(size_t(B), 0), segment.begins.assign(size_t(B), 0);
    for (int64_t b = 0; b < B; ++b) {
      int64_t& document = current[size_t(b)];
      if (document >= 0 && at[size_t(b)] == int64_t(documents[size_t(document)].size())) document = -1;
      if (document < 0 && next < documents.size()) {
        document = int64_t(next++), at[size_t(b)] = 0, segment.begins[size_t(b)] = 1;
        if (sticky) {  // the row draws from the document that begins
          std::vector<Random>& unused = test::infinity_layers(*state)[0].ltm.random;
          if (unused.empty()) state->draw_from(std::vector<Random>(size_t(B), Random{1}));
          for (size_t l = 0; l < 2; ++l)
            test::infinity_layers(*state)[l].ltm.random[size_t(b)] = Random{9}.child(uint64_t(document)).child(l);
        }
      }
      const Document none;
      const Document& words = document < 0 ? none : documents[size_t(document)];
      const int64_t n = std::min<int64_t>(kT, int64_t(words.size()) - (document < 0 ? 0 : at[size_t(b)]));
      segment.lengths[size_t(b)] = n;
      for (int64_t t = 0; t < kT; ++t)
        ids.push_back(t < n ? words[size_t(at[size_t(b)] + t)] : int32_t((t + b) % kVocab));  // anything behind the end
      if (document >= 0) at[size_t(b)] += n;
    }
    if (std::all_of(current.begin(), current.end(), [](int64_t d) { return d < 0; })) return numbers;
    segment.tokens = Tokens::from(ids, {B, kT});
    const test::Answer out = test::read(model, segment, *state, {}, kT);
    const std::vector<real> logits = out.logits.value().to_vector();
    for (int64_t b = 0; b < B; ++b) {
      if (current[size_t(b)] < 0) continue;
      std::vector<real>& all = numbers[size_t(current[size_t(b)])].logits;
      const auto row = logits.begin() + b * kT * kVocab;
      all.insert(all.end(), row, row + segment.lengths[size_t(b)] * kVocab);
    }
    if (out.kl.defined() && B == 1) numbers[size_t(current[0])].kl += item(out.kl.value()) * double(segment.lengths[0]);
  }
}

TEST_CASE("documents of any lengths in a batch give, each, what they give alone", "[model][segment]") {
  struct Variant {
    const char* name;
    bool memory;
    std::function<void(TransformerOptions&, MemoryOptions&)> set;
  };
  const Variant variants[] = {
      {"Transformer-XL", false, [](auto&, auto&) {}},
      {"Transformer-XL, no short-term memory", false, [](auto& t, auto&) { t.stm = 0; }},
      {"Transformer-XL, pre-norm, same length", false, [](auto& t, auto&) { t.pre_norm = t.same_length = true; }},
      {"∞-former", true, [](auto&, auto&) {}},
      {"∞-former, no short-term memory", true, [](auto& t, auto&) { t.stm = 0; }},
      {"∞-former, sticky", true, [](auto&, auto& m) { m.sticky = true; }},
      {"∞-former, gradient through three updates", true, [](auto&, auto& m) { m.grad_updates = 3; }},
      {"∞-former, gibbs", true, [](auto&, auto& m) { m.density = MemoryDensity::gibbs, m.grid = 51; }},
  };
  Dice dice{{71, 3}};
  std::vector<Document> documents(9);
  for (Document& document : documents)
    for (int64_t n = 1 + dice.below(6 * kT); n > 0; --n) document.push_back(int32_t(dice.below(kVocab)));
  documents[4].resize(2 * kT, 1);  // one that ends where a segment does
  for (const Variant& variant : variants) {
    INFO(variant.name);
    TransformerOptions t = test::small_transformer();
    MemoryOptions m = test::small_memory();
    variant.set(t, m);
    const test::Net net(t, variant.memory ? &m : nullptr);
    const Model* model = net.model.get();

    const std::vector<Numbers> together = read_all(*model, documents, 3, m.sticky);
    for (size_t d = 0; d < documents.size(); ++d) {
      INFO("document " << d << " of " << documents[d].size());
      // Alone in a batch of one, and behind others in it: to the bit. In a batch of three sums may run in another
      // order.
      const std::vector<Document> alone = {documents[d]};
      if (!m.sticky) {
        const std::vector<Numbers> single = read_all(*model, alone, 1, false);
        REQUIRE(single[0].logits.size() == documents[d].size() * kVocab);
        REQUIRE(together[d].logits.size() == single[0].logits.size());
        for (size_t i = 0; i < single[0].logits.size(); ++i)
          REQUIRE(together[d].logits[i] ==
                  Approx(single[0].logits[i]).epsilon(kDouble ? 1e-11 : 1e-4).margin(kDouble ? 1e-12 : 1e-5));
      }
    }
    const std::vector<Numbers> in_turn = read_all(*model, documents, 1, m.sticky);
    for (size_t d = 0; d < documents.size(); ++d) {
      INFO("document " << d << ", one after the other");
      for (size_t i = 0; i < in_turn[d].logits.size(); ++i)
        REQUIRE(together[d].logits[i] ==
                Approx(in_turn[d].logits[i]).epsilon(kDouble ? 1e-11 : 1e-4).margin(kDouble ? 1e-12 : 1e-5));
    }
  }
}

TEST_CASE("an auxiliary loss is the mean over the documents' own steps", "[model][segment]") {
  const TransformerOptions t = {
      .vocab = kVocab, .layers = 1, .width = 8, .heads = 2, .ff = 12, .stm = 2, .dropout = 0, .init_std = .4};
  MemoryOptions m;
  m.N = 6, m.widths = {.1, .3}, m.R = 9;
  Parameters parameters(Device::cpu, 5);
  const InfinityFormer model(t, m, parameters);
  parameters.pack();
  const NoGrad no_grad;
  const auto kl = [&](const std::vector<std::vector<int32_t>>& rows, const std::vector<int64_t>& lengths) {
    const int64_t B = int64_t(rows.size());
    const std::unique_ptr<State> state = model.new_state(B);
    std::vector<int32_t> ids;
    for (const auto& row : rows) ids.insert(ids.end(), row.begin(), row.end());
    test::read(model, {Tokens::from(ids, {B, kT})}, *state, {}, kT);
    const test::Answer out = test::read(model, {Tokens::from(ids, {B, kT}), lengths}, *state, {}, kT);
    CHECK((state->age[0] == 0) == (lengths[0] < kT));  // a document that has ended leaves nothing
    return double(item(out.kl.value()));
  };
  const std::vector<int32_t> a = {1, 2, 3, 4, 5}, b = {6, 5, 0, 1, 1}, other = {1, 2, 3, 4, 0};
  const double whole = kl({a}, {5}), part = kl({b}, {2});
  CHECK(kl({a, b}, {5, 2}) == Approx((5 * whole + 2 * part) / 7).epsilon(kDouble ? 1e-12 : 1e-5));
  CHECK(kl({a}, {4}) != Approx(whole).epsilon(1e-9));
  CHECK(kl({a, b}, {5, 0}) == Approx(whole).epsilon(kDouble ? 1e-12 : 1e-5));
}

TEST_CASE("a segment that cannot be is refused, and leaves the state alone", "[model][segment]") {
  Parameters parameters(Device::cpu, 5);
  const TransformerXL model({.vocab = kVocab, .layers = 1, .width = 8, .heads = 2, .ff = 12, .stm = 2, .dropout = 0},
                            parameters);
  parameters.pack();
  const std::unique_ptr<State> state = model.new_state(2);
  const Tokens tokens = Tokens::from(std::vector<int32_t>(10, 1), {2, 5});
  const auto error = [&](const Segment& segment) {
    return error_of([&] { test::read(model, segment, *state, {}, 1); });
  };
  CHECK(error({tokens, {5, 5}, {1, 0}}) == "(no error)");
  const std::vector<int64_t> age = state->age;
  CHECK_THAT(error({tokens, {5}}), Catch::StartsWith("[model] a segment's lengths and begins are one a row, 2"));
  CHECK_THAT(error({tokens, {5, 6}}), Catch::Contains("[0, 5]") && Catch::Contains("got 6"));
  CHECK_THAT(error({tokens, {5, -1}}), Catch::Contains("got -1"));
  CHECK_THAT(error({tokens, {}, {1}}), Catch::Contains("got 0 and 1"));
  CHECK(state->age == age);
}

}  // namespace
}  // namespace lem
