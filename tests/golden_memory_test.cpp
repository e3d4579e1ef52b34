// The operators of the continuous memory against the PyTorch twin's, written from the same paper by itself: ridge
// operators, contractions, attention and its gradients, in double.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "nn/ridge.h"
#include "tensor/backend.h"
#include "tensor/io/safetensors.h"
#include "tests/catch.h"
#include "tests/numeric.h"

using namespace lem;
using nlohmann::json;
using test::relative_error;

namespace {

struct GoldenMemory {
  SafetensorsFile file;
  std::string group;  // "fit", "contraction" or "attention"
  json cases;

  explicit GoldenMemory(const std::string& group)
      : file(path()), group(group), cases(json::parse(file.metadata(group))) {}

  static std::string path() {
    const char* folder = std::getenv("LEM_GOLDEN");
    return std::string(folder ? folder : "tests/golden") + "/memory.safetensors";
  }
  /// The array `name` of case i.
  std::vector<double> numbers(size_t i, const std::string& name) const {
    const std::string key = group + "." + std::to_string(i) + "." + name;
    const auto shape = file.entry(key).shape;
    int64_t n = 1;
    for (int64_t size : shape) n *= size;
    std::vector<double> x(n);
    file.read_as<double>(key, x.data(), shape);
    return x;
  }
  std::vector<real> reals(size_t i, const std::string& name) const {
    const std::vector<double> x = numbers(i, name);
    return {x.begin(), x.end()};
  }
};

Basis basis_of(const json& c) {
  return make_basis(BasisKind::gaussian, c["N"], c["widths"].get<std::vector<double>>());
}

}  // namespace

TEST_CASE("ridge operators agree with the twin's", "[golden]") {
  const GoldenMemory golden("fit");
  REQUIRE(golden.cases.size() > 0);
  for (size_t i = 0; i < golden.cases.size(); ++i) {
    const json& c = golden.cases[i];
    INFO(c.dump());
    const std::vector<double> t = positions(c["L"]);
    CHECK(relative_error(t, golden.numbers(i, "positions")) <= 1e-14);
    CHECK(relative_error(ridge_operator(basis_of(c), t, c["lambda"], c["padded"]), golden.numbers(i, "G")) <= 1e-10);
  }
}

TEST_CASE("contractions agree with the twin's", "[golden]") {
  const GoldenMemory golden("contraction");
  REQUIRE(golden.cases.size() > 0);
  for (size_t i = 0; i < golden.cases.size(); ++i) {
    const json& c = golden.cases[i];
    INFO(c.dump());
    CHECK(relative_error(contraction_positions(c["R"], c["tau"], c["L"]), golden.numbers(i, "positions")) <= 1e-14);
    const Contraction got = contraction(basis_of(c), c["R"], c["tau"], c["L"], c["lambda"], c["padded"]);
    CHECK(relative_error(got.G_old, golden.numbers(i, "G_old")) <= 1e-10);
    CHECK(relative_error(got.G_new, golden.numbers(i, "G_new")) <= 1e-10);
  }
}

TEST_CASE("continuous attention agrees with the twin's", "[golden]") {
  const GoldenMemory golden("attention");
  REQUIRE(golden.cases.size() > 0);
  for (size_t i = 0; i < golden.cases.size(); ++i) {
    const json& c = golden.cases[i];
    INFO(c.dump());
    const Basis host = basis_of(c);
    const std::vector<real> a(host.a.begin(), host.a.end()), b(host.b.begin(), host.b.end());
    const BasisView basis{host.kind, host.size(), a.data(), b.data()};
    const ContinuousAttention sizes{1, c["T"], 1, c["D"]};
    std::vector<real> density = golden.reals(i, "mu");
    const std::vector<real> sigma2 = golden.reals(i, "sigma2"), values = golden.reals(i, "values");
    const std::vector<real> dz = golden.reals(i, "dout");
    density.insert(density.end(), sigma2.begin(), sigma2.end());
    std::vector<real> z(dz.size()), ddensity(density.size()), dvalues(values.size());
    cpu::continuous_attention_forward(z.data(), density.data(), values.data(), basis, sizes);
    on(Device::cpu)
        .continuous_attention_backward(ddensity.data(), dvalues.data(), dz.data(), density.data(), values.data(), basis,
                                       sizes);
    const size_t T = sigma2.size();
    const std::vector<real> dmu(ddensity.begin(), ddensity.begin() + T), dsigma2(ddensity.begin() + T, ddensity.end());
    const double tolerance = kDouble ? 1e-11 : 2e-5;
    CHECK(relative_error(z, golden.numbers(i, "out")) <= tolerance);
    CHECK(relative_error(dmu, golden.numbers(i, "dmu")) <= tolerance);
    CHECK(relative_error(dsigma2, golden.numbers(i, "dsigma2")) <= tolerance);
    CHECK(relative_error(dvalues, golden.numbers(i, "dvalues")) <= tolerance);
  }
}
