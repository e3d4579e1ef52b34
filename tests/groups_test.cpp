// Weights in groups: what weight decay acts on, and what is frozen.
#include <memory>

#include "models/documents.h"
#include "nn/checkpoint.h"
#include "tests/catch.h"
#include "tests/scratch.h"
#include "tests/small_model.h"

namespace lem {
using namespace test;

namespace {

const MemoryOptions kMemory = [] {
  MemoryOptions m = small_memory();
  m.learned_gate = true;
  return m;
}();
/// With a head of its own, so that it can be frozen without the embedding.
const TransformerOptions kTransformer = [] {
  TransformerOptions t = small_transformer();
  t.tie_embedding = false;
  return t;
}();

void backward(const Net& net) {
  DocumentBatch batch{2, 20, 0, {}, {}};
  for (int64_t i = 0; i < 40; ++i) {
    batch.tokens.push_back(int32_t(Stream{9, 9}.bits(uint64_t(i)) % 7));
    batch.targets.push_back(i % 20 < 10 ? -1 : batch.tokens.back());
  }
  net.parameters.zero_grad();
  read_documents(*net.model, batch, 5, {}, true);
}

}  // namespace

TEST_CASE("frozen weights stay as they are, without gradient or moments, and the others learn as before",
          "[optimizer][model]") {
  const Net whole(kTransformer, &kMemory);
  backward(whole);
  std::map<std::string, std::vector<real>> expected;
  for (const Parameters::Named& p : whole.parameters.named()) expected[p.name] = p.grad.to_vector();
  for (const std::vector<std::string>& frozen :
       std::vector<std::vector<std::string>>{{"embedding"},
                                             {"attention."},
                                             {"layers.0."},
                                             {"layers.1.memory."},
                                             {"head."},
                                             {"layers.0.norm"},
                                             {"layers.1.ff.", "layers.0.ff.b"},
                                             {"layers.0.memory.gate"},
                                             {"layers.1.attention.w_"},
                                             {"embedding", "attention.", "layers.0.", "layers.1.attention",
                                              "layers.1.memory", "layers.1.norm", "layers.1.ff", "head.w"}}) {
    CAPTURE(frozen);
    const Net net(kTransformer, &kMemory, frozen);
    backward(net);
    Adam adam(net.parameters, {.weight_decay = .1});
    std::map<std::string, std::vector<real>> before;
    int64_t learned = 0;
    for (const Parameters::Named& p : net.parameters.named()) {
      before[p.name] = p.value.to_vector();
      const bool is_frozen = std::any_of(frozen.begin(), frozen.end(),
                                         [&](const std::string& prefix) { return p.name.starts_with(prefix); });
      CAPTURE(p.name);
      CHECK(p.grad.defined() == !is_frozen);
      if (is_frozen) continue;
      CHECK(p.grad.to_vector() == expected[p.name]);
      learned += p.grad.numel();
    }
    CHECK(net.parameters.grads().numel() >= learned);
    if (frozen.back() == "head.w") {  // all but the head's bias: nothing below is recorded
      const std::unique_ptr<State> state = net.model->new_state(1);
      Losses auxiliary;
      const Variable hidden =
          net.model->forward({Tokens::from({1, 2, 3}, {1, 3}, Device::cpu)}, *state, {}, 3, auxiliary);
      CHECK_FALSE(hidden.needs_grad());
      CHECK(tape().size() == 0);
      CHECK(net.model->head.logits(hidden).needs_grad());
      tape().clear();
    }
    CHECK(net.parameters.grads().numel() < whole.parameters.grads().numel());
    CHECK(adam.m.numel() == net.parameters.grads().numel());
    adam.step(.1);
    for (const Parameters::Named& p : net.parameters.named())
      CHECK((p.value.to_vector() == before[p.name]) == !p.grad.defined());

    const ScratchFolder scratch;
    save_checkpoint(scratch / "x", net.parameters, &adam, {{"a", 1}}, {{"step", 1}});
    const Net again(kTransformer, &kMemory, frozen);
    Adam restored(again.parameters, {});
    const Checkpoint checkpoint(scratch / "x");
    checkpoint.load(again.parameters), checkpoint.load(restored, again.parameters);
    CHECK(again.parameters.values().to_vector() == net.parameters.values().to_vector());
    CHECK(restored.m.to_vector() == adam.m.to_vector());
  }
  CHECK_THAT(error_of([] { Net(kTransformer, &kMemory, {"layers.7."}); }),
             Catch::StartsWith("[parameters] nothing to freeze is called layers.7."));
  CHECK_THAT(error_of([] {
               Parameters p(Device::cpu, 1);
               p.add("w", {1}, {});
               p.freeze("w");
             }),
             Catch::Contains("comes before the model is built"));
}

TEST_CASE("weight decay draws matrices to zero, and no norms, biases or embeddings", "[optimizer][model]") {
  const Net net(kTransformer, &kMemory);
  net.parameters.zero_grad();
  Adam adam(net.parameters, {.weight_decay = .5});
  std::map<std::string, std::vector<real>> before;
  for (const Parameters::Named& p : net.parameters.named()) before[p.name] = p.value.to_vector();
  adam.step(.1);
  for (const Parameters::Named& p : net.parameters.named()) {
    CAPTURE(p.name);
    const std::vector<real> after = p.value.to_vector();
    const bool embedding = p.name == "embedding.weight" || p.name == "attention.u" || p.name == "attention.w";
    const bool vector = p.value.shape().rank() == 1 && !p.name.ends_with("w_mu") && !p.name.ends_with("w_sigma");
    for (size_t i = 0; i < after.size(); ++i)
      CHECK(after[i] == Approx(embedding || vector ? before[p.name][i] : before[p.name][i] * real(.95)).epsilon(1e-6));
  }
}

}  // namespace lem
