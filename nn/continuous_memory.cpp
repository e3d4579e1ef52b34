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

bool all(const std::vector<uint8_t>& flags) {
  return std::all_of(flags.begin(), flags.end(), [](uint8_t f) { return f != 0; });
}
bool none(const std::vector<uint8_t>& flags) {
  return std::none_of(flags.begin(), flags.end(), [](uint8_t f) { return f != 0; });
}

void check_options(const MemoryOptions& o, int64_t width, int64_t heads) {
  check(width % heads == 0, "[memory] width {} is not a multiple of {} heads", width, heads);
  check(o.tau > 0 && o.tau < 1, "[memory] tau must lie between 0 and 1: got {}", o.tau);
  check(o.R > 0 && o.lambda >= 0 && o.sigma2_min > 0 && o.sigma0 > 0 && o.bins > 0 && o.grid > 1 && o.grad_updates >= 1,
        "[memory] R, sigma2_min, sigma0, bins and grad_updates must be positive, the grid have two points, lambda not "
        "be negative");
  const bool gibbs = o.density == MemoryDensity::gibbs;
  check(!(gibbs && o.sticky),
        "[memory] sticky memories need densities with a mean and a variance: use gaussian, not gibbs");
  check(!(gibbs && o.parameters == MemoryParameters::moments),
        "[memory] a gibbs density has no parameters to take as moments: use affine");
  check(o.parameters != MemoryParameters::moments || o.basis == BasisKind::gaussian,
        "[memory] moments are those of Gaussians: use the gaussian basis or affine parameters");
}

}  // namespace

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

MemoryState MemoryState::clone() const {
  const auto copy = [](const Tensor& t) { return t.defined() ? t.clone() : t; };
  MemoryState s = *this;
  s.coeffs = copy(coeffs), s.density = copy(density), s.base = copy(base);
  for (Update& u : s.history) u.X = copy(u.X), u.points = copy(u.points), u.after = copy(u.after);
  return s;
}

void MemoryState::clear_row(int64_t b) {
  const auto clear = [b](Tensor& t) {
    if (!t.defined()) return;
    t = t.clone();  // somebody may hold a copy of this state
    const Tensor row = t.slice(b, b + 1);
    on(t.device()).fill(row.data(), 0, row.numel());
  };
  clear(coeffs), clear(base);
  // The row's densities stay: where they send the next update's points does not matter, as the old signal there is
  // zero.
  for (Update& u : history) {  // done again, these updates leave the row empty
    clear(u.X), clear(u.after);
    u.filled[size_t(b)] = 0, u.newcomers[size_t(b)] = 0;
  }
  filled[size_t(b)] = 0;
  count[size_t(b)] = 0;
}

size_t MemoryState::bytes() const {
  std::set<const Storage*> counted;  // coefficients are shared between coeffs and the history
  size_t n = 0;
  const auto add = [&](const Tensor& t) {
    if (t.defined() && counted.insert(t.storage().get()).second) n += size_t(t.numel()) * sizeof(real);
  };
  add(coeffs), add(density), add(base);
  for (const Update& u : history) add(u.X), add(u.points), add(u.after);
  return n;
}

// ---- the module -----------------------------------------------------------------------------------------------------

ContinuousMemory::ContinuousMemory(Parameters& p, const std::string& name, int64_t width, int64_t heads,
                                   const MemoryOptions& options, double init_std)
    : options_(options), width_(width), heads_(heads), device_(p.device()) {
  check_options(options, width, heads);
  basis_ = make_basis(options.basis, options.N,
                      options.basis == BasisKind::gaussian ? options.widths : std::vector<double>{});
  operators_ =
      std::make_shared<RidgeOperators>(basis_, options.R, options.tau, options.lambda, options.padding, device_);
  device_basis_ = {options.basis, to_device(basis_.a, {options.N}, device_), to_device(basis_.b, {options.N}, device_)};

  const auto matrix = [&](const char* part) { return p.add(name + part, {width, width}, Init::normal(init_std)); };
  w_k_ = matrix(".w_k"), w_v_ = matrix(".w_v"), w_out_ = matrix(".w_out");
  if (options.density != MemoryDensity::gibbs && options.parameters != MemoryParameters::moments) {
    const bool per_head = options.parameters == MemoryParameters::affine_per_head;
    w_density_ = p.add(name + ".w_density", per_head ? Shape{2, heads, options.N} : Shape{2, options.N},
                       Init::normal(init_std), {"w_mu", "w_sigma"});
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
  state.filled.assign(size_t(B), 0);
  state.count.assign(size_t(B), 0);
  return state;
}

// ---- update ---------------------------------------------------------------------------------------------------------

// Empty row:   coeffs = G_firstᵀ X
// Filled row:  coeffs = G_oldᵀ Ψ(u) coeffs_old + G_newᵀ X,  with uniform u the first product is A coeffs_old   [=]
// where X has passed the gate.
Variable ContinuousMemory::apply(const MemoryState::Update& update, const Variable& old) {
  const int64_t B = update.X.dim(0), L = update.X.dim(1), N = options_.N;
  const bool uniform = !update.points.defined();
  const Variable X = options_.gate ? gate_(update.X) : Variable(update.X);
  const bool alike = std::all_of(update.newcomers.begin(), update.newcomers.end(), [L](int64_t n) { return n == L; });
  if (alike && none(update.filled)) return mix(operators_->first(L), X, true);

  const RidgeOperators::Next G = operators_->next(L, uniform);
  const Variable fresh = mix(alike && all(update.filled) ? G.G_new : row_operators(update), X, true);
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
Tensor ContinuousMemory::row_operators(const MemoryState::Update& update) {
  const int64_t B = update.X.dim(0), L = update.X.dim(1), N = options_.N;
  const Tensor rows = zeros({B, L, N}, device_);
  for (int64_t b = 0; b < B; ++b) {
    const int64_t n = update.newcomers[size_t(b)];
    if (n == 0) continue;
    const bool filled = update.filled[size_t(b)];
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

// Where the last segment looked: a histogram of its densities' mass, and R points drawn from it (model.md §2, sticky
// memories). Rows that hold nothing draw nothing: when a row draws depends on its own document alone.
Tensor ContinuousMemory::sticky_points(MemoryState& state) {
  const int64_t B = state.density.dim(1), n = state.density.dim(2) * state.density.dim(3);
  check(int64_t(state.random.size()) == B,
        "[memory] sticky memories draw the points at which they read the past: got random numbers for {} rows, "
        "expected {}; give each row its document's by State::draw_from, or read_documents a Pass::random",
        state.random.size(), B);
  std::vector<Stream> streams;
  for (int64_t b = 0; b < B; ++b)
    streams.push_back(state.filled[size_t(b)] ? state.random[size_t(b)].stream() : Stream{});
  const Tensor mass({B, options_.bins}, device_), points({B, options_.R}, device_);
  const Tokens fallbacks({B}, device_);
  on(device_).sticky_histogram(mass.data(), state.density.data(), B, n, options_.bins);
  on(device_).sticky_points(points.data(), fallbacks.data(), mass.data(), options_.draw, options_.place,
                            Streams::from(streams, {B}, device_).data(), B, options_.bins, options_.R);
  unread_draws_.push_back({fallbacks, {state.filled.begin(), state.filled.end()}});
  if (unread_draws_.size() >= 256) sticky_fallbacks();
  return points;
}

int64_t ContinuousMemory::sticky_fallbacks() const {
  for (const Draw& draw : std::exchange(unread_draws_, {})) {
    const std::vector<int32_t> fell_back = draw.fallbacks.to_vector();
    for (size_t b = 0; b < fell_back.size(); ++b) sticky_fallbacks_ += draw.filled[b] ? fell_back[b] : 0;
  }
  return sticky_fallbacks_;
}

Variable ContinuousMemory::update(MemoryState& state, const Tensor& X, const std::vector<int64_t>& newcomers,
                                  const Tensor& points) {
  check(X.shape().rank() == 3 && X.dim(0) == int64_t(state.filled.size()) && X.dim(2) == width_ && X.dim(1) > 0,
        "[memory] newcomers must be ({}, L > 0, {}): got {}", state.filled.size(), width_, X.shape());
  check(newcomers.size() == state.filled.size(), "[memory] got {} counts of newcomers for {} rows", newcomers.size(),
        state.filled.size());
  check(!points.defined() || points.shape() == Shape({X.dim(0), options_.R}),
        "[memory] points to read the old signal at: got {}, expected ({}, {}); give R for each row", points.shape(),
        X.dim(0), options_.R);
  if (std::all_of(newcomers.begin(), newcomers.end(), [](int64_t n) { return n == 0; })) return recall(state);

  MemoryState::Update update{X, newcomers, points, state.filled, {}};
  if (!points.defined() && options_.sticky && state.density.defined() && !none(state.filled))
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
  for (size_t b = 0; b < newcomers.size(); ++b) {
    if (newcomers[b] == 0) continue;
    state.filled[b] = 1;
    state.count[b] += newcomers[b];
  }
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
                                                int64_t Tq) const {
  const Variable last_q = last_steps(q, Tq);
  if (options_.density == MemoryDensity::gibbs) return {read_gibbs(coeffs, last_q), {}};

  const Variable p = densities(coeffs, q);  // (2, B, H, T)
  state.density = p.value();
  // Rows whose memory is empty are not part of the mean.
  const int64_t B = q.dim(0), T = q.dim(1);
  const int64_t rows = std::count(state.filled.begin(), state.filled.end(), 1);
  std::vector<real> weights(static_cast<size_t>(B));
  for (int64_t b = 0; b < B; ++b)
    weights[size_t(b)] = state.filled[size_t(b)] ? real(1.0 / double(rows * heads_ * T)) : 0;
  Read read;
  read.kl =
      weighted_sum(kl_to_prior(p, real(options_.sigma0), real(options_.mu0)), Tensor::from(weights, {B}, device_));
  if (Tq > 0) {
    const Variable last_p = Tq == T ? p : densities(coeffs, last_q);
    read.z = continuous_attention(last_p, linear(coeffs, w_v_), device_basis_, kernel_density(options_.density));
  }
  return read;
}

Variable ContinuousMemory::gate_output(const Variable& z_ltm, const Variable& q) const {
  return sigmoid_gate(z_ltm, learned_gate_(q));
}

}  // namespace lem
