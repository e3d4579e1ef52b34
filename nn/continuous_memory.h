// The continuous long-term memory of one layer (Martins et al., arXiv 2109.00301, sections 3.1–3.3;
// docs/continuous-memory.md).
//
// The past is a signal over [0, 1], X̄(t) = ψ(t)ᵀ coeffs. `update` squeezes the old signal into [0, τ] and fits the
// newcomers behind it; `attend` reads it through one density per query and head. The state is a plain value outside the
// module.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nn/basis.h"
#include "nn/layers.h"
#include "nn/options.h"
#include "nn/ridge_operators.h"
#include "nn/state.h"

namespace lem {

enum class MemoryDensity { gaussian, truncated_gaussian, parabola, gibbs };
enum class MemoryParameters { affine, affine_per_head, moments };

struct MemoryOptions {
  BasisKind basis = BasisKind::gaussian;
  int64_t N = 512;
  std::vector<double> widths = {.01, .05};  // Σ of the Gaussians
  int64_t R = 512;                          // points at which the old signal is read
  double tau = .75;                         // the share of [0, 1] that the old signal gets
  double lambda = 1;                        // ridge penalty
  bool padding = true;                      // fit zeros outside [0, 1] too
  bool gate = true;                         // smooth what enters
  MemoryDensity density = MemoryDensity::gaussian;
  MemoryParameters parameters = MemoryParameters::affine;
  int64_t grid = 1001;       // points of the trapezoid rule (Gibbs)
  double sigma2_min = 1e-6;  // floor of σ²
  bool sticky = false;
  StickyDraw draw = StickyDraw::stratified;
  StickyPlace place = StickyPlace::left;
  int64_t bins = 128;              // K
  int64_t grad_updates = 1;        // gradient flows through the gate of this many last updates
  bool learned_gate = false;       // z + sigmoid(q W + b) ⊙ Z_LTM instead of z + Z_LTM
  double lambda_kl = 1e-6;         // weight of the KL regulariser
  double sigma0 = .05;             // its prior
  std::optional<double> mu0 = {};  // its mean; none: μ is free
};
OptionTable option_table(MemoryOptions& options);
/// Errors: N not a multiple of the widths, τ outside (0, 1), sticky memories or moments with a density that has no
/// (μ, σ²), ….
void check_options(const MemoryOptions& options);

/// What these options cost that their user may not expect, in words; empty if nothing.
std::string advice(const MemoryOptions& options);

/// What one layer remembers of the far past. Rows of the batch are independent: each may be filled or empty.
struct MemoryState {
  /// What its model makes it of.
  struct Sizes {
    int64_t N, C, H, R, updates;  // updates: kept in the history at most
    bool sticky, density;         // density: there is a (μ, σ²)
  };
  Sizes sizes;
  Tensor coeffs;   // (B, N, C): the memory itself; undefined before the first update
  Tensor density;  // (2, B, H, T): the last (μ, σ²), where sticky memories look next; undefined before the first read
  std::vector<int64_t> count;  // (B): vectors stored so far of the row's document
  std::vector<Random> random;  // (B): where the row's sticky points are drawn from; empty until State::draw_from
  /// One update, as it must be known to be done again.
  struct Update {
    Tensor X;                        // (B, L, C): what entered
    std::vector<int64_t> newcomers;  // (B): how many of them are this row's: the last ones
    Tensor points;                   // (B, R): where the old signal was read; undefined: uniform
    std::vector<int64_t> before;     // (B): vectors stored before this update
    Tensor after;                    // (B, N, C): the coefficients it led to
  };
  /// The last grad_updates − 1 updates, kept so that gradients can flow through them again, and the coefficients before
  /// them (undefined: nothing was stored, or history is empty).
  std::deque<Update> history;
  Tensor base;  // (B, N, C)

  void visit(Fields& fields);
  /// `left` (B): steps that have left the short-term memory, all of which must have been stored.
  void check(const StateCheck& check, const std::string& name, const std::vector<int64_t>& left) const;
};

class ContinuousMemory {
 public:
  /// Errors: N not a multiple of the widths, τ outside (0, 1), sticky memories or moments with a density that has no
  /// (μ, σ²), ….
  ContinuousMemory(Parameters& p, const std::string& name, int64_t width, int64_t heads, const MemoryOptions& options,
                   double init_std);

  /// From now on uses another's ridge operators, of the same options: what one layer makes serves all.
  void share_operators(const ContinuousMemory& other) { operators_ = other.operators_; }

  MemoryState new_state(int64_t B) const;

  /// X (B, L, C) enters; of row b's L vectors only the last newcomers[b], the others are zeros of another document's.
  /// `points`: where to read the old signal, (B, R) — left out, they are drawn (sticky) or uniform. Returns the new
  /// coefficients with their gradient; where nothing enters (X undefined, no newcomers) those that the state holds, as
  /// a constant, undefined while nothing has been stored.
  Variable update(MemoryState& state, const Tensor& X, const std::vector<int64_t>& newcomers,
                  const Tensor& points = {}) const;

  struct Read {
    Variable z;   // (B, Tq, C): E_p[V̄(t)] per head, concatenated, before W_out; for the last Tq queries
    Variable kl;  // (1): mean over filled rows, heads and their queries of KL to the prior; undefined for Gibbs
  };
  /// q (B, T, C) are the layer's own queries, of row b the first lengths[b] its document's; z is computed for the last
  /// Tq of them, densities for all. Stores the densities in the state.
  Read attend(MemoryState& state, const Variable& coeffs, const Variable& q, const std::vector<int64_t>& lengths,
              int64_t Tq) const;

  const Variable& w_out() const { return w_out_; }
  /// sigmoid(q W + b) ⊙ (z W_out); only with options.learned_gate.
  Variable gate_output(const Variable& z, const Variable& q) const;
  const MemoryOptions& options() const { return options_; }
  /// Times that sticky memories found no usable histogram and read uniform points. Waits for the device.
  int64_t sticky_fallbacks() const;

 private:
  Variable apply(const MemoryState::Update& update, const Variable& old) const;
  Tensor row_operators(const MemoryState::Update& update) const;
  Variable where_newcomers(const MemoryState::Update& update, const Variable& coeffs, const Variable& old) const;
  Tensor sticky_points(MemoryState& state) const;
  Variable densities(const Variable& coeffs, const Variable& q) const;
  Variable kl(const Variable& p, const std::vector<int64_t>& count, const std::vector<int64_t>& lengths) const;
  Variable read_gibbs(const Variable& coeffs, const Variable& q) const;

  MemoryOptions options_;
  int64_t width_, heads_;
  Device device_;
  Basis basis_;
  DeviceBasis device_basis_;
  std::shared_ptr<RidgeOperators> operators_;  // shared by a model's layers
  Tensor grid_psi_, grid_log_weights_;         // Gibbs: Ψ (G, N), log c (G)
  Variable w_k_, w_v_, w_out_;                 // (C, C)
  Variable w_density_;                         // (2, N) or (2, H, N): w_μ and w_σ
  TimeGate gate_;
  Linear learned_gate_;
  /// What draws have counted but nobody has read yet, since that would wait for the device.
  struct Draw {
    Tokens fallbacks;            // (B): 0 or 1
    std::vector<int64_t> count;  // (B): what the rows held
  };
  mutable std::vector<Draw> unread_draws_;
  mutable int64_t sticky_fallbacks_ = 0;
};

}  // namespace lem
