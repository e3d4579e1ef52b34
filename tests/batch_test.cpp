// In whatever batches a run is cut, and beside whatever other documents, a sample draws the same sticky points and
// gives the same answer. (To rounding: the order of a matrix product's sums may change with its size.)
#include <algorithm>
#include <functional>
#include <tuple>

#include "tasks/sort/model.h"
#include "tests/catch.h"
#include "tests/scratch.h"

using namespace lem;

namespace {

/// Small, with sticky draws of every kind of randomness, and weights large enough for points to matter.
SortOptions small() {
  SortOptions o = preset_options("demo", "infinity");
  o.symbols = 5, o.length = 90, o.transformer.width = 16, o.transformer.heads = 2, o.transformer.ff = 24, o.segment = 8,
  o.transformer.stm = 8;
  o.memory.N = 16, o.memory.R = 16, o.memory.widths = {.05, .1}, o.memory.sticky = true,
  o.memory.draw = StickyDraw::multinomial, o.memory.place = StickyPlace::uniform;
  o.transformer.dropout = 0, o.transformer.init_std = .3;
  return o;
}

}  // namespace

TEST_CASE("a test's figures do not depend on its batch", "[model][sticky]") {
  SortOptions o = small();
  SortModel net(o);
  const SortingData data = sorting_data(o, Split::test);
  o.training.batch = 1;
  const SortScore one = evaluate(*net.model, o, data, 32, "test");
  for (int64_t batch : {7, 16, 32}) {
    INFO("batch " << batch);
    o.training.batch = batch;
    const SortScore score = evaluate(*net.model, o, data, 32, "test");
    CHECK(score.accuracy == one.accuracy);
    CHECK(score.loss == Approx(one.loss).epsilon(kDouble ? 1e-12 : 1e-6));
  }
  // That the draws matter at all: another seed's.
  o.training.seed += 1;
  CHECK(std::abs(evaluate(*net.model, o, data, 32, "test").loss - one.loss) > 1e-3);
}

TEST_CASE("a training step draws the same however its batch is shared out", "[model][sticky]") {
  SortOptions o = small();
  o.symbols = 6, o.transformer.dropout = .2,
  o.transformer.attention_dropout = .1;  // rows of no multiple of 4 draws, too
  SortModel net(o);
  const SortingData data = sorting_data(o, Split::train);
  // Σ of the losses of samples 8 … 15, read `count` at a time.
  const auto run = [&](int64_t count) {
    double loss = 0;
    for (int64_t first = 8; first < 16; first += count) {
      Random random{1, 0};
      const BatchResult r =
          read_documents(*net.model, sorting_batch(data, first, count), o.segment, {true, &random}, false);
      loss += r.loss() * double(r.scored());
    }
    return loss;
  };
  const double whole = run(8);
  for (int64_t count : {1, 2, 4}) CHECK(run(count) == Approx(whole).epsilon(kDouble ? 1e-12 : 1e-6));
}

TEST_CASE("parts of a batch add up to its gradients, regulariser and dropout included", "[model][sticky]") {
  SortOptions o = small();
  o.symbols = 6, o.transformer.dropout = .2, o.memory.lambda_kl = .05, o.memory.sigma0 = .1;
  SortModel net(o);
  DocumentBatch all = sorting_batch(sorting_data(o, Split::train), 8, 6);
  for (size_t i = 0; i < all.targets.size(); i += 7) all.targets[i] = -1;  // parts with unequal numbers of targets
  const auto rows = [&](int64_t first, int64_t count) {
    DocumentBatch part{count, all.n, all.first + uint64_t(first), {}, {}};
    part.tokens.assign(all.tokens.begin() + first * all.n, all.tokens.begin() + (first + count) * all.n);
    part.targets.assign(all.targets.begin() + first * all.n, all.targets.begin() + (first + count) * all.n);
    return part;
  };
  const BatchSize whole = size_of(all);
  const auto run = [&](int64_t count) {
    net.parameters.zero_grad();
    BatchResult result;
    for (int64_t first = 0; first < 6; first += count) {
      Random random{1, 0};
      result.add(read_documents(*net.model, rows(first, std::min(count, 6 - first)), o.segment, {true, &random}, true,
                                nullptr, &whole));
    }
    return std::tuple(net.parameters.grads().to_vector(), result);
  };
  auto [gradients, result] = run(6);
  double largest = 0;
  for (real g : gradients) largest = std::max(largest, std::abs(double(g)));
  for (int64_t count : {1, 2, 4}) {
    CAPTURE(count);
    auto [summed, parts] = run(count);
    CHECK(parts.scored() == result.scored());
    CHECK(parts.tokens() == result.tokens());
    CHECK(parts.correct() == result.correct());
    CHECK(parts.loss() == Approx(result.loss()).epsilon(kDouble ? 1e-12 : 1e-6));
    CHECK(parts.auxiliary()["kl"] == Approx(result.auxiliary()["kl"]).epsilon(kDouble ? 1e-12 : 1e-6));
    CHECK(result.auxiliary()["kl"] > 0);
    for (size_t i = 0; i < gradients.size(); ++i)
      REQUIRE(std::abs(summed[i] - gradients[i]) <= (kDouble ? 1e-12 : 2e-6) * largest);
  }
}

TEST_CASE("what draws says so where there is nothing to draw from", "[model][sticky]") {
  SortOptions o = small();
  const SortModel net(o);
  const DocumentBatch batch = sorting_batch(sorting_data(o, Split::test), 0, 2);
  CHECK_THAT(error_of([&] { read_documents(*net.model, batch, o.segment, {}, false); }),
             Catch::StartsWith("[memory] sticky memories draw") && Catch::Contains("got random numbers for 0 rows") &&
                 Catch::Contains("Pass::random"));
  o.transformer.dropout = .1;
  const SortModel dropping(o);
  CHECK_THAT(error_of([&] { read_documents(*dropping.model, batch, o.segment, {.training = true}, false); }),
             Catch::StartsWith("[dropout]") && Catch::Contains("set Pass::random"));
  o.memory.sticky = false, o.transformer.dropout = 0;  // and nothing that does not draw asks for it
  const SortModel plain(o);
  CHECK(error_of([&] { read_documents(*plain.model, batch, o.segment, {.training = true}, false); }) == "(no error)");
  const std::unique_ptr<State> state = net.model->new_state(2);
  CHECK_THAT(error_of([&] { state->draw_from({Random{1}}); }), Catch::Contains("for 1 documents, expected 2"));
}

TEST_CASE("parameters that were not packed say so", "[error]") {
  Parameters p(Device::cpu, 1);
  const Variable w = p.add("w", {3}, {.init = Init::normal(1)});
  for (const auto& use :
       {std::function<void()>([&] { p.zero_grad(); }), {[&] { p.values(); }}, {[&] { p.grads(); }}, {[&] {
          Adam(p, {});
        }}})
    CHECK_THAT(error_of(use), Catch::StartsWith("[parameters] not packed yet") && Catch::Contains("call pack() once"));
  CHECK(w.numel() == 3);
  p.pack();
  p.zero_grad();
  CHECK_THAT(error_of([&] { p.pack(); }), Catch::Contains("pack() was called before"));
}
