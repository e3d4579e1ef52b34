#include "models/infinity_former.h"

#include <fmt/core.h>

namespace lem {

InfinityFormer::InfinityFormer(const TransformerOptions& options, const MemoryOptions& memory, Parameters& p)
    : TransformerXL(options, p) {
  for (int l = 0; l < options.layers; ++l)
    memories_.emplace_back(p, "layers." + std::to_string(l) + ".memory", options.width, options.heads, memory,
                           options.init_std);
  for (ContinuousMemory& memory_of_layer : memories_) memory_of_layer.share_operators(memories_.front());
}

State InfinityFormer::new_state(int64_t B) const {
  State state = TransformerXL::new_state(B);
  for (size_t l = 0; l < memories_.size(); ++l) state.layers[l].memory = memories_[l].new_state(B);
  return state;
}

// X = what left the short-term memory;  coeffs ← contraction of the old signal to [0, τ], and X behind it (equations in
// nn/continuous_memory)
Variable InfinityFormer::leave(int l, LayerState& state, const Tensor& leaving, const std::vector<int64_t>& newcomers) {
  const NameScope scope("memory");
  const Tensor points = points_for_update ? points_for_update(l) : Tensor();
  return memories_[size_t(l)].update(state.memory, leaving, newcomers, points);
}

//   z = concat_heads(a) W_o + Z_LTM,   Z_LTM = concat_heads( E_p[V̄(t)] ) W_out
Variable InfinityFormer::attention_output(int l, LayerState& state, const Variable& left, const Variable& a,
                                          const Variable& q, Output& output) {
  const Variable& w_o = layers_[size_t(l)].attention.w_o;
  const ContinuousMemory& memory = memories_[size_t(l)];
  const int64_t Tq = a.defined() ? a.dim(1) : 0;
  const Variable coeffs = left.defined() ? left : memory.recall(state.memory);
  if (!coeffs.defined()) return Tq > 0 ? linear(a, w_o) : Variable();  // nothing has been stored: no long-term term

  const NameScope scope("memory");
  const ContinuousMemory::Read read = memory.attend(state.memory, coeffs, q, Tq);
  if (read.kl.defined()) output.kl = output.kl.defined() ? add(output.kl, read.kl) : read.kl;
  if (Tq == 0) return {};
  if (!memory.options().learned_gate) return linear_sum({{a, w_o}, {read.z, memory.w_out()}});
  return add(linear(a, w_o), memory.gate_output(linear(read.z, memory.w_out()), last_steps(q, Tq)));
}

std::string InfinityFormer::warning() const {
  int64_t n = 0;
  for (const ContinuousMemory& memory : memories_) n += memory.sticky_fallbacks();
  if (n == 0) return {};
  return fmt::format(
      "sticky memories found no usable mass where the last segment attended, and were read at uniform points: {} "
      "time{}",
      n, n == 1 ? "" : "s");
}

}  // namespace lem
