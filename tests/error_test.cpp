// What operations say to arguments that do not fit: the operation, what it got, what it expected.
#include "autograd/ops.h"
#include "tests/catch.h"

namespace lem {
namespace {

using Catch::Contains;

Variable of(const Shape& shape) { return zeros(shape, Device::cpu); }
Tokens tokens(const std::vector<int32_t>& values) { return Tokens::from(values, {int64_t(values.size())}); }

TEST_CASE("elementwise operations name shapes that differ", "[error]") {
  CHECK_THROWS_WITH(add(of({2, 3}), of({3, 2})), "[add] shapes differ: got (2, 3) and (3, 2)");
  CHECK_THROWS_WITH(sigmoid_gate(of({2}), of({2, 1})), "[sigmoid_gate] shapes differ: got (2) and (2, 1)");
  CHECK_THROWS_WITH(weighted_sum(of({4}), zeros({5}, Device::cpu)), "[weighted_sum] weights (5) do not fit x (4)");
  CHECK_THROWS_WITH(bias_act(of({2, 3}), of({2}), Activation::relu), "[bias_act] bias (2) does not fit x (2, 3)");
  CHECK_THROWS_WITH(reshape(of({2, 3}), {4}), "[reshape] element counts differ: got (4) for (2, 3)");
  CHECK_THROWS_WITH(last_steps(of({2, 3, 4}), 4), "[last_steps] 4 steps are not in x (2, 3, 4)");
  CHECK_THROWS_WITH(last_steps(of({2, 3, 4}), -1), Contains("[last_steps]"));
  CHECK_THROWS_WITH(last_steps(of({2, 3}), 1), Contains("[last_steps]"));
  CHECK_THROWS_WITH(scale({}, 2), "[scale] has no inputs");
}

TEST_CASE("matrix products name the axes that do not meet", "[error]") {
  CHECK_THROWS_WITH(linear(of({2, 3}), of({4, 5})),
                    "[linear] last axis of x (2, 3) must be W's first axis: got W (4, 5)");
  CHECK_THROWS_WITH(linear(of({2, 3}), of({3, 5}), true),
                    "[linear] last axis of x (2, 3) must be W's second axis: got W (3, 5)");
  CHECK_THROWS_WITH(linear(of({2, 3}), of({3})), Contains("[linear]"));
  CHECK_THROWS_WITH(linear_sum({}), "[linear_sum] takes one or two terms: got 0");
  const Variable x = of({2, 3}), W = of({3, 5}), narrow = of({3, 4}), longer = of({7, 3});
  CHECK_THROWS_WITH(linear_sum({{x, W}, {x, narrow}}),
                    "[linear_sum] terms do not fit: got x (2, 3) with W (3, 4), beside x (2, 3) with W (3, 5)");
  CHECK_THROWS_WITH(linear_sum({{x, W}, {longer, W}}), Contains("[linear_sum] terms do not fit: got x (7, 3)"));
  CHECK_THROWS_WITH(concat_linear(of({1, 2, 3}), of({2, 2, 3}), of({3, 4})),
                    "[concat_linear] shapes do not fit: got past (1, 2, 3), x (2, 2, 3), W (3, 4)");
  CHECK_THROWS_WITH(concat_linear(of({1, 5, 3}), of({1, 2, 3}), of({3, 4}), zeros({1, 4, 4}, Device::cpu)),
                    "[concat_linear] known must be (1, at least 5, 4): got (1, 4, 4)");
  CHECK_THROWS_WITH(mix(of({4, 5}), of({2, 4, 3})), "[mix] M (4, 5) does not fit x (2, 4, 3)");
  CHECK_THROWS_WITH(mix(of({4, 5}), of({2, 5, 3}), true), "[mix] M (4, 5) does not fit x (2, 5, 3) (M transposed)");
  CHECK_THROWS_WITH(mix(of({3, 4, 5}), of({2, 5, 3})), Contains("[mix] M (3, 4, 5)"));
  CHECK_THROWS_WITH(head_linear(of({2, 5, 3}), of({3, 4}), 2),
                    "[head_linear] x (2, 5, 3) (B, P·H, C) does not fit W (3, 4) (C, H·D), H = 2");
  CHECK_THROWS_WITH(time_conv(of({2, 5, 3}), of({2, 3, 3}), of({3})),
                    "[time_conv] x (2, 5, 3) needs W (3, C, C) and bias (C): got W (2, 3, 3), bias (3)");
}

TEST_CASE("operations on rows name what does not fit", "[error]") {
  CHECK_THROWS_WITH(cross_entropy(of({2, 3}), tokens({1}), 1), "[cross_entropy] logits (2, 3) need 2 targets: got 1");
  CHECK_THROWS_WITH(cross_entropy(of({2, 3}), tokens({-1, 3}), 1),
                    "[cross_entropy] target 3 at position 1 is not below the number of classes, 3");
  CHECK_THROWS_WITH(layer_norm(of({2, 3}), of({2, 4}), {}, of({3}), of({3})),
                    "[layer_norm] x (2, 3) and z (2, 4) differ");
  CHECK_THROWS_WITH(layer_norm(of({2, 3}), {}, {}, of({2}), of({3})),
                    "[layer_norm] gamma, beta and z_bias must have shape (3)");
  CHECK_THROWS_WITH(layer_norm(of({2, 3}), of({2, 3}), of({4}), of({3}), of({3})), Contains("must have shape (3)"));
  CHECK_THROWS_WITH(layer_norm(of({2, 3}), {}, {}, of({3}), {}), Contains("must have shape (3)"));
  CHECK_THROWS_WITH(embedding(tokens({0, 7}), of({7, 2}), 1),
                    "[embedding] token 7 at position 1 is outside the vocabulary of 7");
  CHECK_THROWS_WITH(embedding(tokens({-1}), of({7, 2}), 1), Contains("[embedding] token -1 at position 0"));
  CHECK_THROWS_WITH(embedding(tokens({0}), of({7}), 1), "[embedding] table must be (V, C): got (7)");
}

TEST_CASE("attention names what does not fit", "[error]") {
  const auto attention = [](const Shape& q, const Shape& k, const Shape& v, const Shape& r, const Shape& u,
                            const Shape& w) { return relative_attention(of(q), of(k), of(v), of(r), of(u), of(w)); };
  CHECK_THROWS_WITH(
      attention({1, 2, 6}, {1, 4, 6}, {1, 3, 6}, {4, 6}, {2, 3}, {2, 3}),
      Contains("[relative_attention] q (B, T, C), k and v (B, K, C) do not fit: got (1, 2, 6), (1, 4, 6)"));
  CHECK_THROWS_WITH(attention({1, 2, 6}, {1, 4, 6}, {1, 4, 6}, {4, 6}, {2, 2}, {2, 2}),
                    "[relative_attention] u and w must be (H, D) with H·D = 6: got (2, 2) and (2, 2)");
  CHECK_THROWS_WITH(attention({1, 2, 6}, {1, 4, 6}, {1, 4, 6}, {5, 6}, {2, 3}, {2, 3}),
                    "[relative_attention] r must be (4, 6), one row per distance: got (5, 6)");
  CHECK_THROWS_WITH(attention({1, 5, 6}, {1, 4, 6}, {1, 4, 6}, {4, 6}, {2, 3}, {2, 3}),
                    "[relative_attention] 5 queries need at least as many keys: got 4");
  RelativeAttentionOptions options;
  options.first_key = tokens({0, 0, 0});
  CHECK_THROWS_WITH(
      relative_attention(of({2, 1, 6}), of({2, 4, 6}), of({2, 4, 6}), of({4, 6}), of({2, 3}), of({2, 3}), options),
      "[relative_attention] first_key must be (2) on cpu: got (3) on cpu");
}

TEST_CASE("attention to the continuous memory names what does not fit", "[error]") {
  const DeviceBasis basis{BasisKind::gaussian, zeros({4}, Device::cpu), full({4}, 1, Device::cpu)};
  DeviceBasis waves = basis;
  waves.kind = BasisKind::sine;
  CHECK_THROWS_WITH(head_scores(of({1, 2, 6}), of({1, 2, 4}), 2),
                    "[head_scores] q (B, T, H·D) and k (B, P, H·D) do not fit, H = 2: got (1, 2, 6) and (1, 2, 4)");
  CHECK_THROWS_WITH(density(of({3, 4}), 0), "[density] scores must be (2, …), of μ and of σ²: got (3, 4)");
  CHECK_THROWS_WITH(moment_density(of({1, 2, 6}), of({1, 5, 6}), 2, basis, 0),
                    Contains("[moment_density]") && Contains("N = 4") && Contains("(1, 5, 6)"));
  CHECK_THROWS_WITH(moment_density(of({1, 2, 6}), of({1, 4, 6}), 2, waves, 0),
                    "[moment_density] moments are those of Gaussians: use the gaussian basis or affine parameters");
  CHECK_THROWS_WITH(continuous_attention(of({2, 1, 2, 3}), of({1, 5, 6}), basis, DensityKind::gaussian),
                    Contains("[continuous_attention]") && Contains("N = 4") && Contains("(1, 5, 6)"));
  CHECK_THROWS_WITH(gibbs_attention(of({1, 2, 6}), of({1, 4, 6}), of({1, 4, 6}), zeros({5}, Device::cpu), 2),
                    Contains("[gibbs_attention]") && Contains("G = 5"));
  CHECK_THROWS_WITH(kl_to_prior(of({2, 3}), 1, 0), "[kl] density must be (2, B, H, T): got (2, 3)");
}

TEST_CASE("a product whose rows would overlap is refused", "[error]") {
  const Tensor x = zeros({9}, Device::cpu);
  CHECK_THROWS_WITH(
      on(Device::cpu).gemm(x.data(), x.data(), x.data(), {.m = 3, .n = 1, .k = 3, .lda = 1, .ldb = 1, .ldc = 1}),
      Contains("[gemm] rows overlap: got lda 1"));
}

}  // namespace
}  // namespace lem
