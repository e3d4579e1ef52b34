// Whole models on every device that there is: the same training on the CPU and on the device, step by step.
#include <cmath>

#include "tasks/sort/model.h"
#include "tests/catch.h"
#include "tests/kernel_check.h"

namespace lem::test {
namespace {

constexpr int kSteps = 3;

/// What three training steps leave behind: losses, and the gradients and weights after each.
struct Trace {
  std::vector<double> losses;
  std::vector<std::vector<real>> grads, weights;
};

/// Small, but with all that draws: dropout at every place and sticky samples; several segments, the last one short.
SortOptions small(const std::string& model) {
  SortOptions o = preset_options("demo", model);
  o.symbols = 5, o.length = 41, o.transformer.width = 12, o.transformer.heads = 2, o.transformer.ff = 20,
  o.segment = 16, o.transformer.stm = 12;
  o.memory.N = 10, o.memory.R = 24, o.memory.bins = 16, o.memory.sticky = model == "infinity",
  o.transformer.dropout = .2, o.transformer.attention_dropout = .1;
  o.memory.lambda_kl = 1e-3, o.training.batch = 3, o.transformer.init_std = .1;
  return o;
}

Trace train(SortOptions o, Device device) {
  o.run.device = name(device);
  backend(device).allow_tf32(o.run.allow_tf32);
  SortModel net(o);
  Adam adam(net.parameters, adam_options(o.training));
  const SortingData data = sorting_data(o, Split::train);
  Random random{7, uint64_t(1) << 32};
  Trace trace;
  for (int64_t step = 0; step < kSteps; ++step) {
    net.parameters.zero_grad();
    const BatchResult result = read_documents(
        *net.model, sorting_batch(data, step * o.training.batch, o.training.batch), o.segment, {true, &random}, true);
    trace.losses.push_back(result.loss());
    trace.grads.push_back(net.parameters.grads().to_vector());
    adam.step(schedule(o.training).at(step));
    trace.weights.push_back(net.parameters.values().to_vector());
  }
  return trace;
}

/// The norm of the difference, relative to that of what is expected.
double distance(const std::vector<real>& got, const std::vector<real>& expected) {
  REQUIRE(got.size() == expected.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < got.size(); ++i)
    difference += std::pow(double(got[i]) - double(expected[i]), 2), size += std::pow(double(expected[i]), 2);
  return std::sqrt(difference / size);
}

TEST_CASE("three steps of training are the same on every device", "[device]") {
  for (const char* model : {"infinity", "transformer-xl"}) {
    const Trace expected = train(small(model), Device::cpu);
    CHECK(expected.losses[0] != expected.losses[2]);
    for (Device device : devices()) {
      if (device == Device::cpu) continue;
      const Trace got = train(small(model), device);
      for (size_t i = 0; i < kSteps; ++i) {
        INFO(model << " on " << name(device) << ", step " << i);
        CHECK(std::abs(got.losses[i] - expected.losses[i]) <= 1e-4 * std::abs(expected.losses[i]));
        CHECK(distance(got.grads[i], expected.grads[i]) <= 1e-4);
        CHECK(distance(got.weights[i], expected.weights[i]) <= 1e-4);
      }
    }
  }
}

TEST_CASE("where there is no TF32, allowing it changes nothing", "[device]") {
  for (Device device : devices()) {
    if (device == Device::cuda) continue;
    INFO(name(device));
    SortOptions o = small("transformer-xl");
    const Trace expected = train(o, device);
    o.run.allow_tf32 = true;
    const Trace got = train(o, device);
    backend(device).allow_tf32(false);
    CHECK(got.losses == expected.losses);
    CHECK(got.weights == expected.weights);
  }
}

}  // namespace
}  // namespace lem::test
