#include "nn/continuous_memory.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace lem {
namespace {

DensityKind kernel_density(MemoryDensity density) {
  return density == MemoryDensity::truncated_gaussian ? DensityKind::truncated_gaussian
         : density == MemoryDensity::parabola         ? DensityKind::parabola
                                                      : DensityKind::gaussian;
}

bool all(const std::vector<int64_t>& counts) {
  return std::all_of(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
}
bool none(const std::vector<int64_t>& counts) {
  return std::none_of(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
}

}  // namespace

OptionTable option_table(MemoryOptions& o) {
  const char* group = "Continuous memory (infinity)";
  return {
      {"basis", group, Scope::weights, by_name(&o.basis), "basis functions",
       one_of({"gaussian", "power", "sine", "cosine", "rectangle"})},
      {"widths", group, Scope::weights, &o.widths, "widths of the Gaussians", at_least(1e-6)},
      {"N", group, Scope::weights, &o.N, "basis functions: a multiple of the number of widths", between(1, 1 << 20)},
      {"R", group, Scope::function, &o.R, "points at which the old signal is read", between(1, 1 << 20)},
      {"tau", group, Scope::function, &o.tau, "share of [0, 1] that the old signal keeps",
       between(0, 1, Ends::open, Ends::open)},
      {"lambda", group, Scope::function, &o.lambda, "ridge penalty", above(0)},
      {"padding", group, Scope::function, &o.padding, "fit zeros beside [0, 1] too", anything()},
      {"gate", group, Scope::weights, &o.gate, "smooth what enters the memory", anything()},
      {"density", group, Scope::function, by_name(&o.density), "attention's density",
       one_of({"gaussian", "truncated-gaussian", "parabola", "gibbs"})},
      {"parameters", group, Scope::weights, by_name(&o.parameters), "how its mean and variance come from the scores",
       one_of({"affine", "affine-per-head", "moments"})},
      {"grid", group, Scope::function, &o.grid, "points of the trapezoid rule (gibbs)", between(2, 1 << 20)},
      {"sigma2-min", group, Scope::function, &o.sigma2_min, "least variance", above(0)},
      {"lambda-kl", group, Scope::training, &o.lambda_kl, "weight of the regulariser", at_least(0)},
      {"sigma0", group, Scope::training, &o.sigma0, "the regulariser's standard deviation", at_least(1e-6)},
      {"mu0", group, Scope::training, &o.mu0, "the regulariser's mean", between(0, 1)},
      {"sticky", group, Scope::function, &o.sticky, "read the old signal more densely where attention went",
       anything()},
      {"sticky-draw", group, Scope::function, by_name(&o.draw), "how sticky points are drawn",
       one_of({"stratified", "multinomial"})},
      {"sticky-place", group, Scope::function, by_name(&o.place), "where in its bin a sticky point lies",
       one_of({"left", "centre", "uniform"})},
      {"bins", group, Scope::function, &o.bins, "bins K of the sticky histogram", between(2, 1 << 20)},
      {"grad-updates", group, Scope::training, &o.grad_updates, "gradient flows back through this many last updates",
       between(1, 1 << 20)},
      {"learned-gate", group, Scope::weights, &o.learned_gate, "weigh the memory's output by a learned gate",
       anything()},
  };
}

void check_options(const MemoryOptions& options) {
  MemoryOptions o = options;
  check_allowed(option_table(o));
  const int64_t widths = int64_t(o.widths.size());
  check(o.basis != BasisKind::gaussian || o.N % widths == 0,
        "[options] N must be a multiple of the number of widths, each width having its own row of centres: got N = {} "
        "and {} widths; try N = {}",
        o.N, widths, (o.N / widths + 1) * widths);
  check(o.parameters != MemoryParameters::moments || o.basis == BasisKind::gaussian,
        "[options] parameters moments: got basis {}, expected gaussian: only its functions have centres and widths",
        name(o.basis));
  const bool gibbs = o.density == MemoryDensity::gibbs;
  check(!gibbs || o.parameters != MemoryParameters::moments,
        "[options] parameters moments: got density gibbs, which has no mean and variance; choose affine");
  check(
      !gibbs || !o.sticky,
      "[options] sticky: got density gibbs, which has no mean and variance to say where attention went; choose another "
      "density or --no-sticky");
}

std::string advice(const MemoryOptions& o) {
  std::string text;
  if (o.basis == BasisKind::sine)
    text =
        "sines are zero at 0 and 1: the newest vector of each update is lost, and no constant signal is kept; take the "
        "cosine basis";
  if (o.padding && o.basis != BasisKind::gaussian && o.basis != BasisKind::rectangle)
    text += fmt::format(
        "{}{} functions do not end at 0 and 1, and with zeros beside them a signal fades at each update; "
        "turn padding off",
        text.empty() ? "" : "; ", name(o.basis));
  return text;
}

// ---- state ----------------------------------------------------------------------------------------------------------

void MemoryState::visit(Fields& f) {
  constexpr int64_t kMost = int64_t(1) << 53;
  f.integers("count", count, kMost);
  if (sizes.sticky) f.randoms("random", random);
  f.tensor("coeffs", coeffs, 0, {kRows, sizes.N, sizes.C});
  if (sizes.density) f.tensor("density", density, 1, {2, kRows, sizes.H, kAny});
  history.resize(size_t(f.count("history", int64_t(history.size()), sizes.updates)));
  for (size_t i = 0; i < history.size(); ++i)
    f.part(fmt::format("history.{}", i), [&, &u = history[i]] {
      f.tensor("X", u.X, 0, {kRows, kAny, sizes.C});
      f.integers("newcomers", u.newcomers, kMost), f.integers("before", u.before, kMost);
      f.tensor("points", u.points, 0, {kRows, sizes.R});
      f.tensor("after", u.after, 0, {kRows, sizes.N, sizes.C});
    });
  f.tensor("base", base, 0, {kRows, sizes.N, sizes.C});
}

void MemoryState::check(const StateCheck& check, const std::string& name, const std::vector<int64_t>& left) const {
  const auto coefficients = [&](const std::string& part, const Tensor& x, const std::vector<int64_t>& stored) {
    check.require(x.defined() || none(stored), part, "is missing");
    for (size_t b = 0; b < stored.size(); ++b)
      if (stored[b] == 0) check.require_zeros(part, x, int64_t(b), sizes.N);
  };
  check.require(count == left, name + "count", "does not go with the numbers of steps read and of recent ones");
  coefficients(name + "coeffs", coeffs, count);
  check.require(density.defined() || none(count) || !sizes.sticky, name + "density", "is missing");
  if (density.defined()) {
    const std::vector<real> sigma2 = density.slice(1, 2).to_vector();
    const size_t row = sigma2.size() / count.size();
    for (size_t i = 0; i < sigma2.size(); ++i)
      check.require(sigma2[i] > 0 || (sigma2[i] == 0 && count[i / row] == 0), name + "density",
                    "holds a variance that is not positive");
  }
  for (size_t i = 0; i < history.size(); ++i) {
    const std::string part = fmt::format("{}history.{}.", name, i);
    const Update& u = history[i];
    check.require(u.X.defined() && u.after.defined(), part + "X", "is missing, or what it led to");
    const int64_t L = u.X.dim(1);
    std::vector<int64_t> after = u.before;
    for (size_t b = 0; b < after.size(); ++b) {
      check.require(u.newcomers[b] <= L, part + "newcomers",
                    fmt::format("holds {}, expected 0 … {}", u.newcomers[b], L));
      check.require(u.before[b] == 0 || u.newcomers[b] == L, part + "newcomers", "leaves a gap in a document");
      after[b] += u.newcomers[b];
      const bool fits = i + 1 < history.size() ? after[b] == history[i + 1].before[b] : after[b] == count[b];
      check.require(fits, part + "before", "does not go with what was stored since");
    }
    check.require(u.points.defined() || none(u.before) || !sizes.sticky, part + "points", "is missing");
    if (u.points.defined())
      for (real point : u.points.to_vector())
        check.require(point >= 0 && point <= 1, part + "points", "holds a point outside [0, 1]");
    coefficients(part + "after", u.after, after);
  }
  if (!history.empty()) coefficients(name + "base", base, history.front().before);
}

// ---- the module -----------------------------------------------------------------------------------------------------

ContinuousMemory::ContinuousMemory(Parameters& p, const std::string& name, int64_t width, int64_t heads,
                                   const MemoryOptions& options, double init_std)
    : options_(options), width_(width), heads_(heads), device_(p.device()) {
  check_options(options);
  check(width % heads == 0, "[memory] width {} is not a multiple of {} heads", width, heads);
  basis_ = make_basis(options.basis, options.N,
                      options.basis == BasisKind::gaussian ? options.widths : std::vector<double>{});
  operators_ =
      std::make_shared<RidgeOperators>(basis_, options.R, options.tau, options.lambda, options.padding, device_);
  device_basis_ = {options.basis, to_device(basis_.a, {options.N}, device_), to_device(basis_.b, {options.N}, device_)};

  const auto matrix = [&](const char* part) {
    return p.add(name + part, {width, width}, {.init = Init::normal(init_std)});
  };
  w_k_ = matrix(".w_k"), w_v_ = matrix(".w_v"), w_out_ = matrix(".w_out");
  if (options.density != MemoryDensity::gibbs && options.parameters != MemoryParameters::moments) {
    const bool per_head = options.parameters == MemoryParameters::affine_per_head;
    w_density_ = p.add(name + ".w_density", per_head ? Shape{2, heads, options.N} : Shape{2, options.N},
                       {.init = Init::normal(init_std), .parts = {"w_mu", "w_sigma"}});
  }
  if (options.gate) gate_ = TimeGate(p, name + ".gate", width, init_std);
  if (options.learned_gate) learned_gate_ = Linear(p, name + ".mix.weight", width, width, init_std, name + ".mix.bias");

  if (options.density == MemoryDensity::gibbs) {  // the trapezoid rule: half weight at both ends
    const int64_t G = options.grid;
    std::vector<double> t(static_cast<size_t>(G)), log_weight(static_cast<size_t>(G), std::log(1.0 / double(G - 1)));
    for (int64_t g = 0; g < G; ++g) t[size_t(g)] = double(g) / double(G - 1);
    log_weight.front() = log_weight.back() = std::log(0.5 / double(G - 1));
    const Tensor points = to_device(t, {G}, device_);
    grid_psi_ = Tensor({G, options.N}, device_);
    on(device_).basis_evaluate(grid_psi_.data(), points.data(), device_basis_.view(), G);
    grid_log_weights_ = to_device(log_weight, {G}, device_);
  }
}

MemoryState ContinuousMemory::new_state(int64_t B) const {
  MemoryState state;
  state.sizes = {.N = options_.N,
                 .C = width_,
                 .H = heads_,
                 .R = options_.R,
                 .updates = options_.grad_updates - 1,
                 .sticky = options_.sticky,
                 .density = options_.density != MemoryDensity::gibbs};
  state.count.assign(size_t(B), 0);
  return state;
}

// ---- update ---------------------------------------------------------------------------------------------------------

// Empty row:   coeffs = G_firstᵀ X
// Filled row:  coeffs = G_oldᵀ Ψ(u) coeffs_old + G_newᵀ X,  with uniform u the first product is A coeffs_old   [=]
// where X has passed the gate.
Variable ContinuousMemory::apply(const MemoryState::Update& update, const Variable& old) const {
  const int64_t B = update.X.dim(0), L = update.X.dim(1), N = options_.N;
  const bool uniform = !update.points.defined();
  const Variable X = options_.gate ? gate_(update.X) : Variable(update.X);
  const bool alike = std::all_of(update.newcomers.begin(), update.newcomers.end(), [L](int64_t n) { return n == L; });
  if (alike && none(update.before)) return mix(operators_->first(L), X, true);

  const RidgeOperators::Next G = operators_->next(L, uniform);
  const Variable fresh = mix(alike && all(update.before) ? G.G_new : row_operators(update), X, true);
  Variable kept;
  if (!uniform) {
    const Tensor psi({B, options_.R, N}, device_);  // Ψ(u)
    on(device_).basis_evaluate(psi.data(), update.points.data(), device_basis_.view(), B * options_.R);
    kept = mix(G.G_old_or_A, mix(psi, old), true);
  } else {
    kept = mix(G.G_old_or_A, old);
  }
  const Variable coeffs = add(kept, fresh);
  return alike ? coeffs : where_newcomers(update, coeffs, old);
}

// Where rows of the batch differ each has an operator of its own for X, (B, L, N): that of its own number of newcomers,
// with zeros in the rows of G that would meet another document's vectors. (A row with fewer than L newcomers has just
// begun, so it is empty. Its old coefficients are zero, and the shared operator of the old signal leaves them so.)
Tensor ContinuousMemory::row_operators(const MemoryState::Update& update) const {
  const int64_t B = update.X.dim(0), L = update.X.dim(1), N = options_.N;
  const Tensor rows = zeros({B, L, N}, device_);
  for (int64_t b = 0; b < B; ++b) {
    const int64_t n = update.newcomers[size_t(b)];
    if (n == 0) continue;
    const bool filled = update.before[size_t(b)] > 0;
    check(!filled || n == L, "[memory] row {} goes on with a document, so all {} vectors must be its own: got {}", b, L,
          n);
    const Tensor G = filled ? operators_->next(n, !update.points.defined()).G_new : operators_->first(n);
    rows.slice(b, b + 1).reshape({L, N}).slice(L - n, L).copy_from(G);
  }
  return rows;
}

// Rows without newcomers keep what they had: coeffs ← take coeffs + (1 − take) old, take = 0 or 1 a row.
Variable ContinuousMemory::where_newcomers(const MemoryState::Update& update, const Variable& coeffs,
                                           const Variable& old) const {
  const int64_t B = coeffs.dim(0);
  std::vector<real> take, keep;
  for (int64_t n : update.newcomers) take.push_back(n > 0 ? 1 : 0), keep.push_back(n > 0 ? 0 : 1);
  const auto scaled = [&](const std::vector<real>& factors, const Variable& x) {
    return mix(Tensor::from(factors, {B, 1, 1}, device_), reshape(x, {B, 1, options_.N * width_}));
  };
  return reshape(add(scaled(take, coeffs), scaled(keep, old)), coeffs.shape());
}

// Where the last segment looked: a histogram of its densities' mass, and R points drawn from it (section 3.3 of
// the paper). Rows that hold nothing draw nothing: when a row draws depends on its own document alone.
Tensor ContinuousMemory::sticky_points(MemoryState& state) const {
  const int64_t B = state.density.dim(1), n = state.density.dim(2) * state.density.dim(3);
  check(int64_t(state.random.size()) == B,
        "[memory] sticky memories draw the points at which they read the past: got random numbers for {} rows, "
        "expected {}; give each row its document's by State::draw_from, or read_documents a Pass::random",
        state.random.size(), B);
  std::vector<Stream> streams;
  for (int64_t b = 0; b < B; ++b)
    streams.push_back(state.count[size_t(b)] > 0 ? state.random[size_t(b)].stream() : Stream{});
  const Tensor mass({B, options_.bins}, device_), points({B, options_.R}, device_);
  const Tokens fallbacks({B}, device_);
  on(device_).sticky_histogram(mass.data(), state.density.data(), B, n, options_.bins);
  on(device_).sticky_points(points.data(), fallbacks.data(), mass.data(), options_.draw, options_.place,
                            Streams::from(streams, {B}, device_).data(), B, options_.bins, options_.R);
  unread_draws_.push_back({fallbacks, state.count});
  if (unread_draws_.size() >= 256) sticky_fallbacks();
  return points;
}

int64_t ContinuousMemory::sticky_fallbacks() const {
  for (const Draw& draw : std::exchange(unread_draws_, {})) {
    const std::vector<int32_t> fell_back = draw.fallbacks.to_vector();
    for (size_t b = 0; b < fell_back.size(); ++b) sticky_fallbacks_ += draw.count[b] > 0 ? fell_back[b] : 0;
  }
  return sticky_fallbacks_;
}

Variable ContinuousMemory::update(MemoryState& state, const Tensor& X, const std::vector<int64_t>& newcomers,
                                  const Tensor& points) const {
  if (!X.defined() || none(newcomers)) return state.coeffs.defined() ? Variable(state.coeffs) : Variable();
  const NameScope scope("memory");
  check(X.shape().rank() == 3 && X.dim(0) == int64_t(state.count.size()) && X.dim(2) == width_ && X.dim(1) > 0,
        "[memory] newcomers must be ({}, L > 0, {}): got {}", state.count.size(), width_, X.shape());
  check(newcomers.size() == state.count.size(), "[memory] got {} counts of newcomers for {} rows", newcomers.size(),
        state.count.size());
  check(!points.defined() || points.shape() == Shape({X.dim(0), options_.R}),
        "[memory] points to read the old signal at: got {}, expected ({}, {}); give R for each row", points.shape(),
        X.dim(0), options_.R);

  MemoryState::Update update{X, newcomers, points, state.count, {}};
  if (!points.defined() && options_.sticky && state.density.defined() && !none(state.count))
    update.points = sticky_points(state);

  // Gradient flows through the updates in `history` again, and then through this one.
  const Tensor start = state.history.empty() ? state.coeffs : state.base;
  Variable coeffs = start.defined() ? Variable(start) : Variable(zeros({X.dim(0), options_.N, width_}, device_));
  for (const MemoryState::Update& u : state.history) coeffs = apply(u, coeffs);
  coeffs = apply(update, coeffs);

  update.after = state.coeffs = coeffs.value();
  state.history.push_back(std::move(update));
  for (; int64_t(state.history.size()) > options_.grad_updates - 1; state.history.pop_front())
    state.base = state.history.front().after;
  if (state.history.empty()) state.base = {};
  for (size_t b = 0; b < newcomers.size(); ++b) state.count[b] += newcomers[b];
  return coeffs;
}

// ---- attend ---------------------------------------------------------------------------------------------------------
//
//   s_i = keys_h q_i / √D,   μ_i = sigmoid(w_μ·s_i),   σ²_i = max(softplus(w_σ·s_i), σ²_min),   keys = coeffs W_K
//
// s_i only ever meets w_μ and w_σ, so the keys are needed along those two directions alone:            [=]
//   w_μ·s_i = q_i · ( (w_μᵀ coeffs) W_K )_h / √D

Variable ContinuousMemory::densities(const Variable& coeffs, const Variable& q) const {
  if (options_.parameters == MemoryParameters::moments)
    return moment_density(q, linear(coeffs, w_k_), heads_, device_basis_, real(options_.sigma2_min));
  const bool per_head = options_.parameters == MemoryParameters::affine_per_head;
  const Variable directions =
      mix(per_head ? reshape(w_density_, {2 * heads_, options_.N}) : w_density_, coeffs);             // (B, 2 or 2H, C)
  const Variable keys = per_head ? head_linear(directions, w_k_, heads_) : linear(directions, w_k_);  // (B, 2, C)
  return density(head_scores(q, keys, heads_), real(options_.sigma2_min));
}

// K̄(t) and V̄(t) at the grid: Ψ coeffs W_K and Ψ coeffs W_V
Variable ContinuousMemory::read_gibbs(const Variable& coeffs, const Variable& q) const {
  const Variable signal = mix(grid_psi_, coeffs);  // (B, G, C)
  return gibbs_attention(q, linear(signal, w_k_), linear(signal, w_v_), grid_log_weights_, heads_);
}

ContinuousMemory::Read ContinuousMemory::attend(MemoryState& state, const Variable& coeffs, const Variable& q,
                                                const std::vector<int64_t>& lengths, int64_t Tq) const {
  const NameScope scope("memory");
  const Variable last_q = last_steps(q, Tq);
  if (options_.density == MemoryDensity::gibbs) return {Tq > 0 ? read_gibbs(coeffs, last_q) : Variable(), Variable()};

  const Variable p = densities(coeffs, q);  // (2, B, H, T)
  state.density = p.value();
  Read read;
  read.kl = kl(p, state.count, lengths);
  if (Tq > 0) {
    const Variable last_p = Tq == q.dim(1) ? p : densities(coeffs, last_q);
    read.z = continuous_attention(last_p, linear(coeffs, w_v_), device_basis_, kernel_density(options_.density));
  }
  return read;
}

// The mean over what is some document's: rows whose memory is empty have no part in it, nor have steps behind a
// document's end.
Variable ContinuousMemory::kl(const Variable& p, const std::vector<int64_t>& count,
                              const std::vector<int64_t>& lengths) const {
  const int64_t B = p.dim(1), T = p.dim(3);
  int64_t queries = 0;
  std::vector<int32_t> steps;  // (B): those of each row that count
  for (int64_t b = 0; b < B; ++b) {
    const int64_t n = count[size_t(b)] > 0 ? lengths[size_t(b)] : 0;
    steps.push_back(int32_t(n)), queries += n;
  }
  const bool whole = std::all_of(steps.begin(), steps.end(), [T](int32_t n) { return n == T; });
  const Variable rows = kl_to_prior(p, real(options_.sigma0), real(options_.mu0.value_or(std::nan(""))),
                                    whole ? Tokens() : Tokens::from(steps, {B}, device_));  // (B)
  return weighted_sum(rows, full({B}, real(1 / double(std::max<int64_t>(queries, 1) * heads_)), device_));
}

Variable ContinuousMemory::gate_output(const Variable& z, const Variable& q) const {
  return sigmoid_gate(linear(z, w_out_), learned_gate_(q));
}

}  // namespace lem
