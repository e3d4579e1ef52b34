"""The infinity-former and Transformer-XL in plain PyTorch: the oracle for everything else.

Every formula is written as the paper has it, without a cheaper rewriting; `fast_model.py` has those.
Works in float32 and float64. Sizes:

    B batch          T tokens in a segment        C = H * D  width, heads, width of a head
    V vocabulary     S short-term memory (STM)    F width of the feed-forward layer
    N basis functions of the long-term memory (LTM)      L vectors that enter it in one update
    R points at which the old signal is read             K bins of the sticky histogram
"""
import json
import math
from dataclasses import asdict, dataclass
from typing import Optional, Tuple

import torch
from torch import nn
from torch.nn import functional


# ------------------------------------------------------------------------------------------------ hyper-parameters

@dataclass
class Config:
    """Hyper-parameters; the defaults are those of the sorting task."""
    model: str = "infinity"              # or "transformer-xl"
    vocab: int = 22
    layers: int = 3
    C: int = 300
    H: int = 6
    F: int = 300
    T: int = 1024
    S: int = 1024
    pre_norm: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.0       # of the attention probabilities
    # long-term memory
    N: int = 512
    R: int = 512
    widths: Tuple[float, ...] = (0.01, 0.05)
    tau: float = 0.75
    lambda_: float = 1.0                 # `lambda` in files
    padded: bool = True                  # ridge regression also sees zeros outside [0, 1]
    gate: bool = True                    # smoothing gate on what enters
    sticky: bool = False
    K: int = 128
    sigma2_min: float = 1e-6
    sigma_0: float = 0.05
    mu_0: Optional[float] = None
    lambda_kl: float = 1e-6
    # training
    batch: int = 8
    lr: float = 4e-4
    clip: float = 0.25

    def __post_init__(self):
        if self.model not in ("infinity", "transformer-xl"):
            raise ValueError(f"[config] model: got {self.model!r}, expected 'infinity' or 'transformer-xl'")
        if self.C % self.H or self.C % 2:
            raise ValueError(f"[config] C must be even and a multiple of H: got C = {self.C}, H = {self.H}")

    def to_json(self):
        return json.dumps({name.rstrip("_"): value for name, value in asdict(self).items()})


# ------------------------------------------------------------------------------------------- the continuous signal

class Basis:
    """N normalised Gaussians psi_j(t) = N(t; m_j, s_j^2): N/|widths| centres, each with every width.

    j = centre * |widths| + width.
    """

    def __init__(self, N, widths):
        if N < 1 or N % len(widths):
            raise ValueError(f"[Basis] N must be a multiple of the number of widths: got N = {N}, widths {widths}")
        centres = torch.linspace(0, 1, N // len(widths), dtype=torch.float64)
        self.m = centres.repeat_interleave(len(widths))                                                     # (N)
        self.s2 = torch.tensor(widths, dtype=torch.float64).square().repeat(N // len(widths))               # (N)

    def __call__(self, t):
        """psi(t): t (...) -> (..., N)."""
        return gaussian(t.unsqueeze(-1), self.m.to(t), self.s2.to(t))

    def expectation(self, mu, sigma2):
        """r_j = E_p[psi_j] = N(mu; m_j, s_j^2 + sigma2) for p = N(mu, sigma2): (...), (...) -> (..., N)."""
        return gaussian(mu.unsqueeze(-1), self.m.to(mu), self.s2.to(mu) + sigma2.unsqueeze(-1))


def gaussian(t, mean, variance):
    """N(t; mean, variance)."""
    return torch.exp(-0.5 * (t - mean).square() / variance) / torch.sqrt(2 * math.pi * variance)


def fit_positions(L):
    """t_l = (l - 1/2) / L, l = 1..L."""
    return (torch.arange(1, L + 1, dtype=torch.float64) - 0.5) / L


def contraction_positions(R, L, tau):
    """Old signal at tau i/R, i = 1..R, then the new vectors at tau + (1 - tau) l/L, l = 1..L: (R + L)."""
    old = tau * torch.arange(1, R + 1, dtype=torch.float64) / R
    new = tau + (1 - tau) * torch.arange(1, L + 1, dtype=torch.float64) / L
    return torch.cat([old, new])


def padding_positions(P):
    """Where P vectors are joined by zeros: -(k - 1/2)/P and 1 + (k - 1/2)/P for every k >= 1 that stays within
    half a unit of [0, 1], that is k = 1..floor((P + 1)/2). Returns (left, right), both ascending."""
    k = torch.arange(1, (P + 1) // 2 + 1, dtype=torch.float64)
    return -((k - 0.5) / P).flip(0), 1 + (k - 0.5) / P


def ridge_operator(positions, basis, lambda_, padded=True):
    """G = F^T (F F^T + lambda I)^-1 with F[j,l] = psi_j(t_l); coeffs = G^T X minimises
    |F^T coeffs - X|^2 + lambda |coeffs|^2.  positions (P) -> G (P, N), in double.

    With padding F has more columns, those of the zero targets, whose rows of G meet zeros and are dropped."""
    if len(positions) < 1 or not lambda_ > 0:
        raise ValueError(f"[ridge_operator] got {len(positions)} positions, lambda {lambda_}; expected >= 1 and > 0")
    P, everywhere, left = len(positions), positions, []
    if padded:
        left, right = padding_positions(P)
        everywhere = torch.cat([left, positions, right])
    F = basis(everywhere).T                                                                           # (N, P or more)
    A = F @ F.T + lambda_ * torch.eye(len(F), dtype=F.dtype)                                                  # (N, N)
    F_kept = F[:, len(left):len(left) + P]                                                                    # (N, P)
    return torch.cholesky_solve(F_kept, torch.linalg.cholesky(A)).T.contiguous()


def sticky_points(mu, sigma2, offset, R, K=128):
    """Points that lie denser where the previous segment attended (stratified draw, left edges).

    mu, sigma2 (B, H, T); offset (B) in [0, 1) -> points (B, R), ascending.
        mass[k] = sum over heads and queries of Phi((e_{k+1} - mu)/sigma) - Phi((e_k - mu)/sigma),  p = mass / sum
        point i is the left edge of the first bin whose cumulative probability exceeds (i + offset)/R, i = 0..R-1
    """
    edges = torch.linspace(0, 1, K + 1, dtype=mu.dtype)
    edges[0], edges[-1] = -1e-6, 1 + 1e-6
    cdf = torch.special.ndtr((edges - mu.unsqueeze(-1)) / sigma2.sqrt().unsqueeze(-1))                # (B, H, T, K+1)
    mass = (cdf[..., 1:] - cdf[..., :-1]).sum(dim=(1, 2))                                                     # (B, K)
    total = mass.sum(-1, keepdim=True)                                                                        # (B, 1)
    cumulative = mass.cumsum(-1) / total                                                                      # (B, K)
    levels = (torch.arange(R, dtype=mu.dtype) + offset.unsqueeze(-1)) / R                                     # (B, R)
    bins = torch.searchsorted(cumulative, levels.contiguous(), right=True).clamp(max=K - 1)                   # (B, R)
    uniform = torch.arange(1, R + 1, dtype=mu.dtype) / R                                                      # (R)
    usable = torch.isfinite(total) & (total > 0)                                                              # (B, 1)
    return torch.where(usable, edges[bins], uniform)


# --------------------------------------------------------------------------------------------------------- modules

def parameter(*shape):
    return nn.Parameter(torch.zeros(*shape))


def split_heads(x, H):
    """(B, L, H*D) -> (B, H, L, D)."""
    return x.unflatten(-1, (H, -1)).transpose(1, 2)


def join_heads(x):
    """(B, H, L, D) -> (B, L, H*D)."""
    return x.transpose(1, 2).flatten(2)


class LayerNorm(nn.Module):
    def __init__(self, C):
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(C)), parameter(C)

    def forward(self, x):
        return functional.layer_norm(x, self.gamma.shape, self.gamma, self.beta, 1e-5)


class FeedForward(nn.Module):
    """Linear(C, F), ReLU, Dropout, Linear(F, C), Dropout."""

    def __init__(self, C, F, dropout):
        super().__init__()
        self.w1, self.b1, self.w2, self.b2 = parameter(C, F), parameter(F), parameter(F, C), parameter(C)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        hidden = self.dropout(torch.relu(x @ self.w1 + self.b1))
        return self.dropout(hidden @ self.w2 + self.b2)


class Gate(nn.Module):
    """x * sigmoid(Conv1d(x)), three taps over time: y_t = b + sum_k x_{t+k-1} W_k, zeros outside."""

    def __init__(self, C):
        super().__init__()
        self.weight, self.bias = parameter(3, C, C), parameter(C)                        # [tap][in][out]

    def forward(self, x):                                                                # (B, L, C)
        L, padded = x.shape[1], functional.pad(x, (0, 0, 1, 1))                          # (B, L + 2, C)
        y = self.bias + sum(padded[:, k:k + L] @ self.weight[k] for k in range(3))
        return x * torch.sigmoid(y)


class LongTermMemory(nn.Module):
    """The parameters and operators of one layer's continuous memory. Its state (coeffs) lives outside."""
    Gate = Gate

    def __init__(self, config):
        super().__init__()
        C, N = config.C, config.N
        self.config, self.basis = config, Basis(N, config.widths)
        self.w_k, self.w_v, self.w_out = parameter(C, C), parameter(C, C), parameter(C, C)
        self.w_mu, self.w_sigma = parameter(N), parameter(N)
        self.gate = self.Gate(C) if config.gate else nn.Identity()
        self.operators = {}                                                              # the G computed so far

    def operator(self, kind, L):
        """G for L new vectors, in double; `kind` "fit": (L, N), "contraction": (R + L, N)."""
        c = self.config
        if (kind, L) not in self.operators:
            positions = fit_positions(L) if kind == "fit" else contraction_positions(c.R, L, c.tau)
            self.operators[kind, L] = ridge_operator(positions, self.basis, c.lambda_, c.padded)
        return self.operators[kind, L]

    def update(self, x, coeffs_old=None, points=None):
        """x (B, L, C) enters; coeffs_old (B, N, C); points (B, R), by default u_i = i/R -> coeffs (B, N, C)."""
        x, R = self.gate(x), self.config.R
        if coeffs_old is None:
            return self.operator("fit", x.shape[1]).to(x).T @ x                          # coeffs = G^T X
        if points is None:
            points = (torch.arange(1, R + 1, dtype=torch.float64) / R).to(x)
        x_old = self.basis(points) @ coeffs_old.detach()                                 # X_old = Psi(u) coeffs_old
        G = self.operator("contraction", x.shape[1]).to(x)
        return G.T @ torch.cat([x_old, x], dim=1)                                        # G_old^T X_old + G_new^T X_new

    def forward(self, q, coeffs):
        """q (B, H, T, D), coeffs (B, N, C) -> Z_LTM (B, T, C), mu (B, H, T), sigma2 (B, H, T)."""
        H, D = q.shape[1], q.shape[3]
        keys = split_heads(coeffs @ self.w_k, H)                                         # (B, H, N, D)
        values = split_heads(coeffs @ self.w_v, H)                                       # (B, H, N, D)
        s = q @ keys.transpose(2, 3) / math.sqrt(D)                                      # (B, H, T, N)
        mu = torch.sigmoid(s @ self.w_mu)                                                # mu_i = sigmoid(w_mu . s_i)
        sigma2 = functional.softplus(s @ self.w_sigma).clamp(min=self.config.sigma2_min)
        r = self.basis.expectation(mu, sigma2)                                           # (B, H, T, N)
        return join_heads(r @ values) @ self.w_out, mu, sigma2

    def kl(self, mu, sigma2):
        """KL( N(mu, sigma2) || N(mu_0, sigma_0^2) ), mean over batch, heads and queries."""
        c = self.config
        ratio = sigma2 / c.sigma_0 ** 2
        kl = 0.5 * (ratio - torch.log(ratio) - 1)
        if c.mu_0 is not None:
            kl = kl + 0.5 * (mu - c.mu_0).square() / c.sigma_0 ** 2
        return kl.mean()


def sinusoid(distances, C):
    """[sin(p f_0) ... sin(p f_{C/2-1}), cos(p f_0) ...], f_k = 10000^(-2k/C): (L) -> (L, C)."""
    f = 10000 ** (-2 * torch.arange(C // 2, dtype=torch.float64) / C)
    angle = distances.double().unsqueeze(-1) * f                                         # (L, C/2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class RelativeAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        C = config.C
        self.H, self.attention_dropout = config.H, nn.Dropout(config.attention_dropout)
        self.w_q, self.w_k, self.w_v, self.w_r, self.w_o = (parameter(C, C) for _ in range(5))

    def forward(self, x, c, u, w):
        """x (B, T, C); c = [stm, x] (B, S'+T, C); u, w (H, D) -> z (B, T, C), q (B, H, T, D)."""
        H, T, keys, C = self.H, x.shape[1], c.shape[1], x.shape[2]
        q = split_heads(x @ self.w_q, H)                                                 # (B, H, T, D)
        k, v = split_heads(c @ self.w_k, H), split_heads(c @ self.w_v, H)                # (B, H, S'+T, D)
        P = sinusoid(torch.arange(keys - 1, -1, -1), C).to(x)                            # row m: distance S'+T-1-m
        r = split_heads((P @ self.w_r).unsqueeze(0), H)                                  # (1, H, S'+T, D)

        # score[i,j] = ( (q_i + u).k_j + (q_i + w).r_{i-j} ) / sqrt(D), and key j is i + S' - j behind query i
        i, j = torch.arange(T).unsqueeze(1), torch.arange(keys).unsqueeze(0)
        content = (q + u.unsqueeze(1)) @ k.transpose(2, 3)                               # (B, H, T, S'+T)
        by_row = (q + w.unsqueeze(1)) @ r.transpose(2, 3)                                # (B, H, T, S'+T)
        row = (T - 1 - i + j).clamp(max=keys - 1)                                        # (T, S'+T)
        position = by_row.gather(3, row.expand_as(by_row))
        score = (content + position) / math.sqrt(q.shape[3])
        score = score.masked_fill(j > i + keys - T, -math.inf)                           # causal: j <= i + S'
        a = self.attention_dropout(score.softmax(-1)) @ v                                # (B, H, T, D)
        return join_heads(a) @ self.w_o, q


@dataclass
class LayerState:
    """What one layer remembers between two segments; nothing of it carries a gradient."""
    recent: Optional[torch.Tensor] = None       # (B, n, C) inputs of the layer, at most S + T of them
    coeffs: Optional[torch.Tensor] = None       # (B, N, C) the long-term memory
    mu: Optional[torch.Tensor] = None           # (B, H, T) densities of the previous segment
    sigma2: Optional[torch.Tensor] = None       # (B, H, T)


class Layer(nn.Module):
    Memory, FeedForward = LongTermMemory, FeedForward           # fast_model.py puts its own in their place

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.attention = RelativeAttention(config)
        self.norm1, self.norm2 = LayerNorm(config.C), LayerNorm(config.C)
        self.ff = self.FeedForward(config.C, config.F, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        if config.model == "infinity":
            self.memory = self.Memory(config)

    def remember(self, x, state, offset):
        """Splits the recent inputs: all but the last S leave for the LTM, the rest is the STM.

        Returns stm (B, S', C), coeffs (B, N, C) or None, and the points (B, R) read, if sticky."""
        recent = x[:, :0] if state.recent is None else state.recent
        leaving = max(recent.shape[1] - self.config.S, 0)
        stm, coeffs, points = recent[:, leaving:], state.coeffs, None
        if self.config.model == "infinity" and leaving > 0:
            if self.config.sticky and state.mu is not None:
                points = sticky_points(state.mu, state.sigma2, offset, self.config.R, self.config.K)
            coeffs = self.memory.update(recent[:, :leaving], coeffs, points)
        return stm, coeffs, points

    def forward(self, x, state, u, w, offset=None):
        """x (B, T, C) -> y (B, T, C), the next state, KL, and a dictionary of inner values."""
        stm, coeffs, points = self.remember(x, state, offset)
        kl, mu, sigma2 = x.new_zeros(()), None, None
        context = torch.cat([stm, x], dim=1)
        if self.config.pre_norm:
            z, q = self.attention(self.norm1(x), self.norm1(context), u, w)
        else:
            z, q = self.attention(x, context, u, w)
        if coeffs is not None:
            z_ltm, mu, sigma2 = self.memory(q, coeffs)
            z, kl = z + z_ltm, self.memory.kl(mu, sigma2)
        if self.config.pre_norm:
            y = x + self.dropout(z)
            y = y + self.ff(self.norm2(y))
        else:
            y = self.norm1(x + self.dropout(z))
            y = self.norm2(y + self.ff(y))
        detach = lambda value: None if value is None else value.detach()
        after = LayerState(detach(context), detach(coeffs), detach(mu), detach(sigma2))
        return y, after, kl, {"points": points, "coeffs": coeffs, "mu": mu, "sigma2": sigma2}


class Table(nn.Module):
    """A named group of parameters, so that their keys read `name.key`."""

    def __init__(self, **tensors):
        super().__init__()
        for name, tensor in tensors.items():
            setattr(self, name, tensor)


class Model(nn.Module):
    """Infinity-former or, with config.model = "transformer-xl", Transformer-XL. Input and output vectors are tied."""
    Layer = Layer

    def __init__(self, config):
        super().__init__()
        V, C, H = config.vocab, config.C, config.H
        self.config = config
        self.embedding = Table(weight=parameter(V, C))
        self.head = Table(bias=parameter(V))
        self.attention = Table(u=parameter(H, C // H), w=parameter(H, C // H))           # shared by all layers
        self.layers = nn.ModuleList(self.Layer(config) for _ in range(config.layers))
        if config.pre_norm:
            self.final_norm = LayerNorm(C)
        self.dropout = nn.Dropout(config.dropout)

    def start(self):
        """The state before a document."""
        return [LayerState() for _ in self.layers]

    def forward(self, tokens, states, offsets=None):
        """One segment. tokens (B, T); states: one per layer; offsets (layers, B) of the sticky draw.

        Returns logits (B, T, V), the next states, KL summed over layers, and every layer's inner values."""
        x = self.dropout(self.embedding.weight[tokens] * math.sqrt(self.config.C))       # (B, T, C)
        after, inside, kl = [], [], 0
        for l, layer in enumerate(self.layers):
            offset = None if offsets is None else offsets[l]
            x, state, layer_kl, values = layer(x, states[l], self.attention.u, self.attention.w, offset)
            after.append(state)
            inside.append(values)
            kl = kl + layer_kl
        if self.config.pre_norm:
            x = self.final_norm(x)
        logits = self.dropout(x) @ self.embedding.weight.T + self.head.bias
        return logits, after, kl, inside
