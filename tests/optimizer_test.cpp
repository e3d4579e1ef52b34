// Adam against its definition written out in double; clipping; schedules; parameters in their arenas.
#include <cmath>

#include "nn/optimizer.h"
#include "tests/catch.h"

using namespace lem;

TEST_CASE("Adam and AdamW take the steps of their papers", "[optimizer]") {
  const double weight_decay = GENERATE(0.0, 0.1), clip = GENERATE(0.0, 0.5);
  Parameters p(Device::cpu, 1);
  const Variable a = p.add("a", {3}, {.init = Init::normal(1)}), b = p.add("b", {2, 2}, {.init = Init::normal(1)});
  p.pack();
  Adam adam(p, {.weight_decay = weight_decay, .clip = clip});
  std::vector<double> w, m(7, 0), v(7, 0);
  for (const Variable* x : {&a, &b})
    for (real value : x->value().to_vector()) w.push_back(value);

  for (int step = 1; step <= 5; ++step) {
    std::vector<double> g;
    for (size_t i = 0; i < 7; ++i) g.push_back(Stream{3, uint64_t(step)}.normal(i));
    p.zero_grad();
    a.slot()->add(Tensor::from({real(g[0]), real(g[1]), real(g[2])}, {3}));
    b.slot()->add(Tensor::from({real(g[3]), real(g[4]), real(g[5]), real(g[6])}, {2, 2}));
    double norm = 0;
    for (double x : g) norm += x * x;
    norm = std::sqrt(norm);
    adam.step(.01);
    CHECK(std::sqrt(item(adam.grad_squares())) == Approx(norm).epsilon(1e-5));
    const double factor = clip > 0 ? std::min(1.0, clip / (norm + 1e-6)) : 1;
    for (size_t i = 0; i < 7; ++i) {
      const double x = g[i] * factor;
      m[i] = .9 * m[i] + .1 * x;
      v[i] = .999 * v[i] + .001 * x * x;
      const double update = m[i] / (1 - std::pow(.9, step)) / (std::sqrt(v[i] / (1 - std::pow(.999, step))) + 1e-8);
      w[i] -= .01 * (update + weight_decay * w[i]);
    }
    std::vector<real> got = a.value().to_vector(), rest = b.value().to_vector();
    got.insert(got.end(), rest.begin(), rest.end());
    for (size_t i = 0; i < 7; ++i) CHECK(double(got[i]) == Approx(w[i]).epsilon(kDouble ? 1e-12 : 2e-5));
  }
}

TEST_CASE("a gradient that is not finite changes nothing, now or later", "[optimizer]") {
  Parameters p(Device::cpu, 1);
  const Variable a = p.add("a", {3}, {.init = Init::normal(1)});
  p.pack();
  Adam adam(p, {.clip = 1});
  const std::vector<real> before = p.values().to_vector();
  a.slot()->add(Tensor::from({1, std::numeric_limits<real>::quiet_NaN(), 1}, {3}));
  adam.step(.1);
  CHECK(p.values().to_vector() == before);
  CHECK(adam.m.to_vector() == std::vector<real>(before.size(), 0));
  CHECK(std::isnan(item(adam.grad_squares())));
  p.zero_grad();
  a.slot()->add(Tensor::from({1, 1, 1}, {3}));
  adam.step(.1);
  CHECK(p.values().to_vector() == before);
  CHECK(std::isnan(item(adam.grad_squares())));
}

TEST_CASE("learning rates rise, then take their course", "[optimizer]") {
  const auto at = [](ScheduleKind kind, int64_t step) { return Schedule{kind, 2, 110, 10}.at(step); };
  CHECK(at(ScheduleKind::cosine, 0) == Approx(.2));
  CHECK(at(ScheduleKind::constant, 9) == Approx(2));
  CHECK(at(ScheduleKind::constant, 100) == 2);
  CHECK(at(ScheduleKind::linear, 60) == Approx(1));
  CHECK(at(ScheduleKind::cosine, 60) == Approx(1));
  CHECK(at(ScheduleKind::cosine, 35) == Approx(2 * .5 * (1 + std::cos(M_PI / 4))));
  CHECK(at(ScheduleKind::cosine, 110) == Approx(0).margin(1e-12));
  CHECK(at(ScheduleKind::inverse_sqrt, 39) == Approx(2 * std::sqrt(10.0 / 40)));
  CHECK(Schedule{ScheduleKind::cosine, 3, 100, 0}.at(0) == 3);
}

TEST_CASE("parameters lie in one arena, under the names of their parts", "[optimizer]") {
  Parameters p(Device::cpu, 1);
  const Variable w = p.add("memory.w", {2, 5}, {.init = Init::normal(1), .parts = {"w_mu", "w_sigma"}});
  const Variable b = p.add("b", {3}, {.init = Init::constant(2), .decay = false});
  const std::vector<real> before = w.value().to_vector();
  p.pack();
  CHECK(w.value().to_vector() == before);  // the Variable given out before pack() looks into the arena now
  CHECK(p.count() == 13);
  const auto named = p.named();
  REQUIRE(named.size() == 3);
  CHECK(named[0].name == "memory.w_mu");
  CHECK(named[1].name == "memory.w_sigma");
  CHECK(named[1].value.shape() == Shape({5}));
  CHECK(named[1].value.data() == w.data() + 5);
  CHECK(p.values().to_vector()[size_t(b.data() - p.values().data())] == 2);
  CHECK_THROWS_WITH(p.add("late", {1}, {.init = Init::constant(0), .decay = false}),
                    Catch::Contains("comes after pack()"));
}
