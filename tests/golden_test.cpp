// The models against their twin in PyTorch (bench/reference), which was written from the same paper by itself. The
// golden files hold weights, tokens, and what the twin made of them in double: logits, losses, every gradient, and ten
// steps of training.
#include <cmath>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "models/documents.h"
#include "nn/optimizer.h"
#include "tensor/io/safetensors.h"
#include "tests/catch.h"
#include "tests/numeric.h"
#include "tests/small_model.h"

using namespace lem;
using nlohmann::json;

namespace {

constexpr double kTolerance = kDouble ? 1e-9 : 1e-4;

/// `make parity` lets the twin make new files and names their folder.
std::string golden_folder() {
  const char* folder = std::getenv("LEM_GOLDEN");
  return folder ? folder : "tests/golden";
}

struct Golden {
  explicit Golden(const std::string& model)
      : file(golden_folder() + "/" + model + ".safetensors"), c(json::parse(file.metadata("config"))) {}

  std::vector<double> numbers(const std::string& name) const {
    const Entry& e = file.entry(name);
    std::vector<double> x(size_t(Shape(e.shape).numel()));
    file.read_as<double>(name, x.data(), e.shape);
    return x;
  }
  Tensor tensor(const std::string& name) const {
    const std::vector<double> x = numbers(name);
    return Tensor::from(std::vector<real>(x.begin(), x.end()), Shape(file.entry(name).shape));
  }
  /// One step's (B, n) of tokens or targets (steps, B, n).
  std::vector<int32_t> step(const std::string& name, int64_t s) const {
    const Entry& e = file.entry(name);
    std::vector<int32_t> all(size_t(Shape(e.shape).numel()));
    file.read(name, all.data(), DType::I32, e.shape);
    const int64_t size = e.shape[1] * e.shape[2];
    return {all.begin() + s * size, all.begin() + (s + 1) * size};
  }
  DocumentBatch batch(int64_t s) const {
    const std::vector<int64_t>& shape = file.entry("tokens").shape;
    return {shape[1], shape[2], uint64_t(s * shape[1]), step("tokens", s), step("targets", s)};
  }

  SafetensorsFile file;
  json c;
};

void require_close(const std::string& what, const std::vector<real>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  const size_t at = test::largest_difference(got, expected).at;
  INFO(what << ": largest difference at " << at << ": got " << got[at] << ", expected " << expected[at]);
  REQUIRE(test::relative_error(got, expected) <= kTolerance);
}

struct Run {
  explicit Run(const Golden& g) : golden(g), parameters(Device::cpu, 0) {
    const TransformerOptions t{.vocab = g.c["vocab"],
                               .layers = g.c["layers"],
                               .width = g.c["C"],
                               .heads = g.c["H"],
                               .ff = g.c["F"],
                               .stm = g.c["S"],
                               .dropout = 0};
    if (g.c["model"] == "transformer-xl") {
      model = std::make_unique<TransformerXL>(t, parameters);
    } else {
      MemoryOptions m;
      m.N = g.c["N"], m.widths = g.c["widths"].get<std::vector<double>>(), m.R = g.c["R"], m.tau = g.c["tau"],
      m.lambda = g.c["lambda"];
      m.sigma2_min = g.c["sigma2_min"], m.lambda_kl = g.c["lambda_kl"], m.sigma0 = g.c["sigma_0"],
      m.sticky = g.c["sticky"];
      auto infinity = std::make_unique<InfinityFormer>(t, m, parameters);
      if (m.sticky) infinity->points_for_update = [this](int l) { return points(l); };
      model = std::move(infinity);
    }
    parameters.pack();
    for (const Parameters::Named& p : parameters.named()) p.value.copy_from(golden.tensor("param." + p.name));
    updates.resize(size_t(t.layers));
  }

  /// The twin's sticky sample for layer l's next update; segment 0 has none, and the first update has no old signal.
  Tensor points(int l) {
    const std::string name = fmt::format("points.{}.{}.{}", step, ++updates[size_t(l)], l);
    return golden.file.contains(name) ? golden.tensor(name) : Tensor();
  }
  void start_step(int64_t s) {
    step = s;
    std::fill(updates.begin(), updates.end(), 0);
  }

  const Golden& golden;
  Parameters parameters;
  std::unique_ptr<Model> model;
  Random random{1, 0};
  int64_t step = 0;
  std::vector<int> updates;  // per layer, in this step
};

void check_forward(Run& run) {
  const Golden& g = run.golden;
  const DocumentBatch batch = g.batch(0);
  const int64_t T = g.c["T"], V = g.c["vocab"];
  const std::vector<double> logits = g.numbers("logits");
  const std::unique_ptr<State> state = run.model->new_state(batch.B);
  const NoGrad no_grad;
  for (int64_t begin = 0, segment = 0; begin < batch.n; begin += T, ++segment) {
    const int64_t n = std::min(T, batch.n - begin);
    std::vector<int32_t> tokens;
    std::vector<double> expected;
    for (int64_t b = 0; b < batch.B; ++b) {
      tokens.insert(tokens.end(), batch.tokens.begin() + b * batch.n + begin,
                    batch.tokens.begin() + b * batch.n + begin + n);
      expected.insert(expected.end(), logits.begin() + (b * batch.n + begin) * V,
                      logits.begin() + (b * batch.n + begin + n) * V);
    }
    const test::Answer out = test::read(*run.model, {Tokens::from(tokens, {batch.B, n})}, *state, {}, n);
    require_close(fmt::format("logits of segment {}", segment), out.logits.value().to_vector(), expected);
    for (int64_t l = 0; l < int64_t(g.c["layers"]); ++l) {
      const std::string place = fmt::format(".{}.{}", segment, l);
      if (!g.file.contains("coeffs" + place)) continue;
      const MemoryState& memory = test::infinity_layers(*state)[size_t(l)].ltm;
      require_close("coeffs" + place, memory.coeffs.to_vector(), g.numbers("coeffs" + place));
      require_close("mu" + place, memory.density.slice(0, 1).to_vector(), g.numbers("mu" + place));
      require_close("sigma2" + place, memory.density.slice(1, 2).to_vector(), g.numbers("sigma2" + place));
    }
  }
}

void check_training(Run& run) {
  const Golden& g = run.golden;
  const double lambda_kl = g.c["lambda_kl"];
  const std::vector<double> losses = g.numbers("losses");
  Adam adam(run.parameters, {.clip = g.c["clip"]});
  for (size_t s = 0; s < losses.size(); ++s) {
    run.start_step(int64_t(s));
    run.parameters.zero_grad();
    const BatchResult result = read_documents(*run.model, g.batch(int64_t(s)), g.c["T"], {true, &run.random}, true);
    if (s == 0)
      for (const Parameters::Named& p : run.parameters.named())
        require_close("grad." + p.name, p.grad.to_vector(), g.numbers("grad." + p.name));
    require_close(fmt::format("loss of step {}", s), {real(result.loss() + lambda_kl * result.auxiliary()["kl"])},
                  {losses[s]});
    adam.step(g.c["lr"]);
  }
  // Adam divides each gradient by its own size, so that rounding decides where the true gradient is almost zero: the
  // weights themselves are compared in double alone.
  if (!kDouble) return;
  for (const Parameters::Named& p : run.parameters.named())
    require_close("final." + p.name, p.value.to_vector(), g.numbers("final." + p.name));
}

}  // namespace

TEST_CASE("models agree with the PyTorch twin", "[golden]") {
  const std::string model = GENERATE("transformer_xl", "infinity_uniform", "infinity_sticky");
  DYNAMIC_SECTION(model) {
    const Golden golden(model);
    SECTION("forward, memories and densities") {
      Run run(golden);
      check_forward(run);
    }
    SECTION("gradients and ten steps of training") {
      Run run(golden);
      check_training(run);
    }
  }
}
