// Each important kernel at a preset's sizes, with the operations it must do or the bytes it must move.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "bench/bench.h"
#include "bench/useful_flops.h"
#include "nn/ridge.h"
#include "tasks/sort/model.h"
#include "tensor/random.h"

namespace lem {
namespace {

Tensor normal(Device device, const Shape& shape) {
  static uint64_t streams = 0;
  const Stream stream{7, streams++};
  std::vector<real> x(static_cast<size_t>(shape.numel()));
  for (size_t i = 0; i < x.size(); ++i) x[i] = real(stream.normal(i));
  return Tensor::from(x, shape, device);
}

/// Collects timings; skips what the filter leaves out before anything is allocated.
struct Suite {
  Device device;
  std::string filter;
  int repeats;
  std::vector<KernelTiming> timings{};
  const Kernels& k = on(device);

  Tensor empty(const Shape& shape) const { return Tensor(shape, device); }
  Tensor normal(const Shape& shape) const { return lem::normal(device, shape); }

  bool wants(const std::string& name) const { return name.find(filter) != std::string::npos; }
  void flops(const std::string& name, const std::string& size, double work, const std::function<void()>& call) {
    if (wants(name)) timings.push_back({name, size, time_of(device, call, repeats), work, false});
  }
  void bytes(const std::string& name, const std::string& size, double floats, const std::function<void()>& call) {
    if (wants(name)) timings.push_back({name, size, time_of(device, call, repeats), floats * sizeof(real), true});
  }
};

struct Sizes {
  int64_t B, T, C, F, H, D, N, R, V, rows;
};

void products(Suite& s, const Sizes& z) {
  if (!s.wants("gemm")) return;
  const Tensor x = s.normal({z.rows, z.C}), W = s.normal({z.C, z.C}), y({z.rows, z.C}, s.device),
               dW({z.C, z.C}, s.device);
  const Tensor G = s.normal({z.T, z.N}), coeffs({z.B, z.N, z.C}, s.device);
  const double work = 2.0 * double(z.rows) * double(z.C) * double(z.C);
  s.flops("gemm x W", fmt::format("{}×{}×{}", z.rows, z.C, z.C), work, [&] {
    s.k.gemm(y.data(), x.data(), W.data(), {.m = z.rows, .n = z.C, .k = z.C, .lda = z.C, .ldb = z.C, .ldc = z.C});
  });
  s.flops("gemm xᵀ dy", fmt::format("{}×{}×{}", z.C, z.C, z.rows), work, [&] {
    s.k.gemm(dW.data(), x.data(), y.data(),
             {.m = z.C, .n = z.C, .k = z.rows, .trans_a = true, .lda = z.C, .ldb = z.C, .ldc = z.C});
  });
  s.flops("gemm Gᵀ X", fmt::format("{} of {}×{}×{}", z.B, z.N, z.C, z.T), 2.0 * double(z.B * z.N * z.C) * double(z.T),
          [&] {
            s.k.gemm(coeffs.data(), G.data(), x.data(),
                     {.m = z.N,
                      .n = z.C,
                      .k = z.T,
                      .trans_a = true,
                      .lda = z.N,
                      .ldb = z.C,
                      .ldc = z.C,
                      .batch = z.B,
                      .stride_b = z.T * z.C,
                      .stride_c = z.N * z.C});
          });
}

void attention(Suite& s, const Sizes& z, int64_t K) {
  if (!s.wants("relative_attention")) return;
  const RelativeAttention a{.B = z.B, .T = z.T, .K = K, .H = z.H, .D = z.D, .scale = real(1 / std::sqrt(double(z.D)))};
  const Tensor q = s.normal({z.B, z.T, z.C}), k = s.normal({z.B, K, z.C}), v = s.normal({z.B, K, z.C}),
               r = s.normal({K, z.C});
  const Tensor u = s.normal({z.H, z.D}), w = s.normal({z.H, z.D}), out({z.B, z.T, z.C}, s.device),
               lse({z.B, z.H, z.T}, s.device);
  const Tensor dq = q.clone(), dk = k.clone(), dv = v.clone(), dr = r.clone(), du = u.clone(), dw = w.clone(),
               dout = s.normal(q.shape());
  // content, position and values: 3 products over the visible pairs; twice that back
  const double work = 3 * 2 * double(z.B * z.C) * causal_pairs(double(z.T), double(K));
  const std::string size = fmt::format("T {} K {} H {} D {}", z.T, K, z.H, z.D);
  s.flops("relative_attention forward", size, work, [&] {
    s.k.relative_attention_forward(out.data(), lse.data(), q.data(), k.data(), v.data(), r.data(), u.data(), w.data(),
                                   nullptr, a);
  });
  s.flops("relative_attention backward", size, 2 * work, [&] {
    s.k.relative_attention_backward(dq.data(), dk.data(), dv.data(), dr.data(), du.data(), dw.data(), dout.data(),
                                    out.data(), lse.data(), q.data(), k.data(), v.data(), r.data(), u.data(), w.data(),
                                    nullptr, a);
  });
}

void memory(Suite& s, const Sizes& z, const DeviceBasis& basis) {
  const int64_t n = z.B * z.H * z.T;
  const Tensor scores = s.normal({2, z.B, z.H, z.T}), p(scores.shape(), s.device), dp(scores.shape(), s.device);
  s.k.density_forward(p.data(), scores.data(), real(1e-6), n);
  const Tensor values = s.normal({z.B, z.N, z.C}), dvalues = values.clone(), q = s.normal({z.B, z.T, z.C}),
               out = q.clone(), keys = s.normal({z.B, 2, z.C});
  const ContinuousAttention a{.B = z.B, .T = z.T, .H = z.H, .D = z.D};
  const std::string size = fmt::format("T {} N {} H {} D {}", z.T, z.N, z.H, z.D);
  const double work = 2.0 * double(z.B * z.T * z.C) * double(z.N);
  s.flops("continuous_attention forward", size, work,
          [&] { s.k.continuous_attention_forward(out.data(), p.data(), values.data(), basis.view(), a); });
  s.flops("continuous_attention backward", size, 2 * work, [&] {
    s.k.continuous_attention_backward(dp.data(), dvalues.data(), q.data(), p.data(), values.data(), basis.view(), a);
  });
  const double nd = double(n), qn = double(q.numel());
  s.bytes("head_scores forward", size, qn + 2 * nd,
          [&] { s.k.head_scores_forward(dp.data(), q.data(), keys.data(), 1, 2, z.B, z.T, z.H, z.D); });
  s.bytes("density forward", fmt::format("{}", n), 4 * nd,
          [&] { s.k.density_forward(p.data(), scores.data(), real(1e-6), n); });
  s.bytes("kl forward", fmt::format("{}", n), 2 * nd,
          [&] { s.k.kl_forward(dp.data(), p.data(), nullptr, real(.05), 0, false, z.B, z.H, z.T); });
  const Tensor mass({z.B, 128}, s.device), points({z.B, z.R}, s.device), psi({z.B * z.R, z.N}, s.device);
  const Tokens fallbacks({z.B}, s.device);
  const Streams streams = Streams::from(std::vector<Stream>(size_t(z.B), {1, 2}), {z.B}, s.device);
  s.bytes("sticky_histogram", fmt::format("{} densities, 128 bins", n), 2 * nd,
          [&] { s.k.sticky_histogram(mass.data(), p.data(), z.B, z.H * z.T, 128); });
  s.k.sticky_histogram(mass.data(), p.data(), z.B, z.H * z.T, 128);
  s.bytes("sticky_points", fmt::format("{} × {}", z.B, z.R), double(z.B * (128 + z.R)), [&] {
    s.k.sticky_points(points.data(), fallbacks.data(), mass.data(), StickyDraw::stratified, StickyPlace::left,
                      streams.data(), z.B, 128, z.R);
  });
  s.bytes("basis_evaluate", fmt::format("{} × {}", z.B * z.R, z.N), double(z.B * z.R * (z.N + 1)),
          [&] { s.k.basis_evaluate(psi.data(), points.data(), basis.view(), z.B * z.R); });
}

void rows(Suite& s, const Sizes& z, real dropout_rate) {
  const Tensor x = s.normal({z.rows, z.C}), b = s.normal({z.C}), y = x.clone(), d = x.clone(), z2 = x.clone(),
               sum = x.clone();
  const Tensor mean({z.rows}, s.device), rstd({z.rows}, s.device), db = b.clone(), dg = b.clone(), dbeta = b.clone();
  const Dropout dropout{dropout_rate, {1, 2}};
  const double n = double(x.numel());
  const std::string size = fmt::format("{} × {}, dropout {:g}", z.rows, z.C, dropout_rate);
  s.bytes("bias_act forward", size, 2 * n,
          [&] { s.k.bias_act_forward(y.data(), x.data(), b.data(), Activation::relu, dropout, z.rows, z.C); });
  s.bytes("bias_act backward", size, 3 * n, [&] {
    s.k.bias_act_backward(d.data(), db.data(), y.data(), x.data(), b.data(), Activation::relu, dropout, z.rows, z.C);
  });
  const auto norm = [&] {
    s.k.layer_norm_forward(y.data(), sum.data(), mean.data(), rstd.data(), x.data(), z2.data(), b.data(), b.data(),
                           b.data(), real(1e-5), dropout, z.rows, z.C);
  };
  s.bytes("layer_norm forward", size, 4 * n, norm);
  norm();
  s.bytes("layer_norm backward", size, 4 * n, [&] {
    s.k.layer_norm_backward(d.data(), z2.data(), db.data(), dg.data(), dbeta.data(), x.data(), sum.data(), mean.data(),
                            rstd.data(), b.data(), dropout, z.rows, z.C);
  });
  s.bytes("sigmoid_gate forward", size, 3 * n,
          [&] { s.k.sigmoid_gate_forward(y.data(), x.data(), d.data(), x.numel()); });
  std::vector<int32_t> ids(static_cast<size_t>(z.rows));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = int32_t(Stream{3, 4}.bits(i) % uint64_t(z.V));
  const Tokens tokens = Tokens::from(ids, {z.rows}, s.device);
  const Tensor table = s.normal({z.V, z.C}), dtable = table.clone(), logits = s.normal({z.rows, z.V}),
               dlogits = logits.clone(), one = full({1}, 1, s.device);
  s.bytes("embedding forward", fmt::format("{} × {}", z.rows, z.C), n,
          [&] { s.k.embedding_forward(y.data(), tokens.data(), table.data(), 1, z.rows, z.C); });
  s.bytes("embedding backward", fmt::format("{} × {}", z.rows, z.C), n,
          [&] { s.k.embedding_backward(dtable.data(), x.data(), tokens.data(), 1, z.rows, z.V, z.C); });
  s.bytes("cross_entropy forward", fmt::format("{} × {}", z.rows, z.V), double(logits.numel()),
          [&] { s.k.cross_entropy_forward(mean.data(), rstd.data(), logits.data(), tokens.data(), z.rows, z.V); });
  s.bytes("cross_entropy backward", fmt::format("{} × {}", z.rows, z.V), 2 * double(logits.numel()), [&] {
    s.k.cross_entropy_backward(dlogits.data(), one.data(), 1, logits.data(), rstd.data(), tokens.data(), z.rows, z.V);
  });
}

void optimiser(Suite& s, const SortOptions& o) {
  if (!s.wants("adam")) return;
  const SortModel net(o);
  const Tensor &p = net.parameters.values(), &g = net.parameters.grads(), m = zeros(p.shape(), s.device), v = m.clone(),
               squares = full({1}, 1, s.device);
  const AdamStep step{.lr = real(1e-4),
                      .beta1 = real(.9),
                      .beta2 = real(.999),
                      .eps = real(1e-8),
                      .weight_decay = 0,
                      .correction1 = real(.1),
                      .correction2 = real(.001),
                      .clip = real(.25)};
  s.bytes("adam", fmt::format("{}", p.numel()), 7 * double(p.numel()),
          [&] { s.k.adam(p.data(), m.data(), v.data(), g.data(), squares.data(), step, p.numel()); });
}

}  // namespace

double time_of(Device device, const std::function<void()>& call, int repeats) {
  const Backend& backend = lem::backend(device);
  const auto measure = [&](int calls) {
    backend.start_clock();
    for (int i = 0; i < calls; ++i) call();
    return backend.stop_clock() / calls;
  };
  measure(1);
  // An event's clock ticks every half microsecond: a GPU is timed over 100 of them or more.
  const int calls = device == Device::cuda ? int(std::clamp(1e-4 / measure(1), 1.0, 100.0)) : 1;
  const double enough = device == Device::simt ? 0 : .25;  // an interpreter's times tell nothing
  std::vector<double> seconds;
  for (double total = 0; int(seconds.size()) < repeats || (total < enough && seconds.size() < 1000);) {
    seconds.push_back(measure(calls));
    total += seconds.back() * calls;
  }
  std::nth_element(seconds.begin(), seconds.begin() + int64_t(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

Limits measure_limits(Device device) {
  const std::vector<int64_t> sizes = device == Device::cpu    ? std::vector<int64_t>{1024, 2048}
                                     : device == Device::simt ? std::vector<int64_t>{64}
                                                              : std::vector<int64_t>{4096, 8192};
  Limits limits{0, 0};
  for (int64_t n : sizes) {
    const Tensor a = full({n, n}, real(1.5), device), b = full({n, n}, real(.5), device), c({n, n}, device);
    const double seconds = time_of(
        device,
        [&] { on(device).gemm(c.data(), a.data(), b.data(), {.m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n}); },
        7);
    limits.gflops = std::max(limits.gflops, 2.0 * double(n) * double(n) * double(n) / seconds * 1e-9);
  }
  const Tensor from = zeros({device == Device::simt ? 1 << 16 : 64 << 20}, device), to = from.clone();
  const double seconds = time_of(
      device, [&] { on(device).scale(to.data(), 1, from.data(), from.numel()); }, 5);
  limits.gigabytes = 2 * double(from.numel()) * sizeof(real) / seconds * 1e-9;
  return limits;
}

SortOptions bench_options(const std::string& preset, const std::string& model, Device device) {
  SortOptions o = preset_options(preset == "tiny" ? "demo" : preset, model);
  o.preset = preset, o.run.device = name(device);
  if (preset == "tiny") {
    o.symbols = 5, o.length = 41, o.transformer.width = 16, o.transformer.heads = 2, o.transformer.ff = 20,
    o.segment = 16, o.transformer.stm = 12;
    o.memory.N = 10, o.memory.R = 24, o.memory.bins = 16, o.transformer.dropout = .1, o.training.batch = 2;
  }
  return o;
}

std::vector<KernelTiming> time_kernels(const SortOptions& o, const std::string& filter, int repeats) {
  const Sizes z{o.training.batch,    o.segment,
                o.transformer.width, o.transformer.ff,
                o.transformer.heads, o.transformer.width / o.transformer.heads,
                o.memory.N,          o.memory.R,
                o.symbols + 2,       o.training.batch * o.segment};
  const Basis basis = make_basis(BasisKind::gaussian, o.memory.N, o.memory.widths);
  Suite s{parse_device(o.run.device.c_str()), filter, repeats};
  const auto upload = [&](const std::vector<double>& x) {
    return Tensor::from(std::vector<real>(x.begin(), x.end()), {int64_t(x.size())}, s.device);
  };
  products(s, z);
  attention(s, z, o.segment);
  attention(s, z, o.segment + o.transformer.stm);
  memory(s, z, {BasisKind::gaussian, upload(basis.a), upload(basis.b)});
  rows(s, z, real(o.transformer.dropout));
  optimiser(s, o);
  return s.timings;
}

}  // namespace lem
