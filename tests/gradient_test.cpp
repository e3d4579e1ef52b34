// Every entry of the table of operations: right gradients pass, wrong ones do not.
#include <cmath>
#include <fstream>
#include <regex>
#include <set>

#include "tests/catch.h"
#include "tests/gradient_check.h"

namespace lem::test {
namespace {

constexpr Device kDevice = Device::cpu;

TEST_CASE("every operation of autograd/ops.h is in the table", "[gradient]") {
  std::ifstream header("autograd/ops.h");
  REQUIRE(header);  // tests run in the root of the project
  std::set<std::string> declared, tested;
  for (std::string line; std::getline(header, line);)
    if (std::smatch found; std::regex_search(line, found, std::regex("^(inline )?Variable (\\w+)\\(")))
      declared.insert(found[2]);
  for (const OpCase& c : op_table()) tested.insert(c.op);
  CHECK(declared.size() > 15);
  CHECK(declared == tested);
}

TEST_CASE("gradients agree with finite differences", "[gradient]") {
  for (const OpCase& c : op_table()) CHECK(check_gradients(c, kDevice) == "");
}

TEST_CASE("gradients are reproducible, independent and add up", "[gradient]") {
  for (const OpCase& c : op_table()) CHECK(check_conduct(c, kDevice) == "");
}

// ---- planted faults

struct Fault {
  const char* name;
  bool seen_in_float;  // without finite differences to compare with
  std::function<void(std::vector<real>& dx)> spoil;
};

size_t largest(const std::vector<real>& dx) {
  size_t at = 0;
  for (size_t i = 1; i < dx.size(); ++i)
    if (std::abs(dx[i]) > std::abs(dx[at])) at = i;
  return at;
}

const Fault kFaults[] = {
    {"too large by a millionth", false,
     [](std::vector<real>& dx) {
       for (real& d : dx) d *= real(1 + 1e-6);
     }},
    {"of the wrong sign", false,
     [](std::vector<real>& dx) {
       for (real& d : dx) d = -d;
     }},
    {"missing in one element", false, [](std::vector<real>& dx) { dx[largest(dx)] = 0; }},
    {"shifted by one element", false,
     [](std::vector<real>& dx) {
       if (dx.size() == 1) dx[0] += 1;
       std::rotate(dx.begin(), dx.begin() + 1, dx.end());
     }},
    {"NaN in one element", true, [](std::vector<real>& dx) { dx[dx.size() / 2] = real(NAN); }},
    {"never made", true, [](std::vector<real>& dx) { dx.clear(); }},
};

/// x, but what comes back through it is spoilt.
Variable spoilt(const Variable& x, const Fault& fault) {
  Variable y = result("spoilt", x.shape(), {&x});
  y.value().copy_from(x.value());
  return tape().record("spoilt", y, [&fault, gx = x.slot()](const Tensor& dy) {
    std::vector<real> dx = dy.to_vector();
    fault.spoil(dx);
    if (!dx.empty()) gx->add(Tensor::from(dx, dy.shape(), dy.device()));
  });
}

/// Whether argument `which` has a gradient that a fault would show in: some are empty, or zero by nature.
bool has_gradient(const OpCase& c, size_t which) {
  Arguments leaves;
  for (const Tensor& x : make_inputs(c, kDevice)) leaves.push_back(Variable::leaf(x));
  const Variable y = c.apply(leaves);
  if (y.numel() == 0 || leaves[which].numel() == 0) return tape().clear(), false;
  std::vector<real> cotangent(static_cast<size_t>(y.numel()));
  for (size_t i = 0; i < cotangent.size(); ++i) cotangent[i] = real(Stream{61, 62}.normal(i));
  backward(weighted_sum(y, Tensor::from(cotangent, y.shape(), kDevice)));
  const std::vector<real> g = leaves[which].grad().to_vector();
  return std::abs(g[largest(g)]) > 1e-3;
}

TEST_CASE("a planted wrong gradient of any operation is found", "[gradient]") {
  std::set<std::pair<std::string, std::string>> planted;  // (operation, argument)
  for (const OpCase& c : op_table())
    for (size_t which = 0; which < c.inputs.size(); ++which) {
      if (!planted.emplace(c.op, c.inputs[which].name).second) continue;
      // The gradient must really be there for the fault to show; later entries get their chance otherwise.
      if (!has_gradient(c, which)) {
        planted.erase({c.op, c.inputs[which].name});
        continue;
      }
      for (const Fault& fault : kFaults) {
        if (!kDouble && !fault.seen_in_float) continue;
        const std::string found =
            check_gradients(c, kDevice, [&](const Variable& x, size_t i) { return i == which ? spoilt(x, fault) : x; });
        INFO(c.label() << ": gradient of " << c.inputs[which].name << " " << fault.name);
        CHECK_THAT(found, Catch::Contains("gradient of " + c.inputs[which].name));
      }
    }
  for (const OpCase& c : op_table())
    for (const Input& input : c.inputs) {
      INFO(c.op << ", " << input.name);
      CHECK(planted.count({c.op, input.name}) == 1);
    }
}

// ---- at the kinks, where the table does not go

TEST_CASE("relu at zero has slope zero", "[gradient]") {
  const Variable x = Variable::leaf(Tensor::from({-1, -0.0, 0, 1}, {4}));
  backward(weighted_sum(bias_act(x, {}, Activation::relu), full({4}, 3, kDevice)));
  CHECK(x.grad().to_vector() == std::vector<real>{0, 0, 0, 3});
}

TEST_CASE("a variance on its floor gets no gradient, and one at the edge a finite one", "[gradient]") {
  const real edge = std::log1p(std::exp(real(0)));  // softplus(0)
  const Variable s = Variable::leaf(Tensor::from({0, 0, -3, 0}, {2, 2}));
  const Variable y = density(s, edge);
  CHECK(y.value().to_vector()[2] == edge);
  backward(weighted_sum(y, full({2, 2}, 1, kDevice)));
  const std::vector<real> ds = s.grad().to_vector();
  CHECK(ds[2] == 0);
  CHECK((ds[3] == 0 || ds[3] == Approx(0.5)));  // one of the two one-sided derivatives
}

TEST_CASE("finite differences reach what the tolerance asks for", "[gradient]") {
  // Shapes that appear in the table: smooth, steep, and with a kink a little away from the point.
  CHECK(derivative_at_zero([](double t) { return std::exp(1 + t); }, 1e-2) == Approx(std::exp(1.)).epsilon(1e-11));
  CHECK(derivative_at_zero([](double t) { return std::exp(100 * t); }, 1e-2) == Approx(100).epsilon(1e-10));
  CHECK(derivative_at_zero([](double t) { return t + std::abs(t - 1e-3); }, 1e-2) == Approx(0).margin(1e-10));
  CHECK(derivative_at_zero([](double) { return 7.0; }, 1e-2) == 0);
}

}  // namespace
}  // namespace lem::test
