// Relative attention as docs/relative-attention.md defines it, one plain loop after the other and in double: what the
// kernels must equal.
#pragma once

#include <cstdint>
#include <vector>

#include "tensor/kernel_types.h"

namespace lem::naive {

using Array = std::vector<double>;

struct RelativeAttentionInputs {
  RelativeAttention s;
  Array q;                         // (B, T, H·D)
  Array k, v;                      // (B, K, H·D)
  Array r;                         // (K, H·D)
  Array u, w;                      // (H, D)
  std::vector<int32_t> first_key;  // (B), or empty: 0
};

struct RelativeAttentionOutputs {
  Array out;  // (B, T, H·D)
  Array lse;  // (B, H, T)
};

struct RelativeAttentionGradients {
  Array dq, dk, dv, dr, du, dw;
};

RelativeAttentionOutputs relative_attention_forward(const RelativeAttentionInputs& x);
/// dout: (B, T, H·D)
RelativeAttentionGradients relative_attention_backward(const Array& dout, const RelativeAttentionInputs& x);

}  // namespace lem::naive
