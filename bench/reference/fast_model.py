"""The same models as fast as PyTorch makes them on a CPU; `bench.py --check` holds them to model.py.

Exact rewritings of model.py:
    attention      tiles over queries, keys a tile cannot see are skipped; the relative shift is a flat offset (no copy)
    keys of LTM    w_mu . s_i = x_i . (W_q (W_K^T (coeffs^T w_mu))) / sqrt(D): rank two, no (T, N) scores
    contraction    coeffs = A coeffs_old + G_new^T X with A = G_old^T Psi(u), if u is uniform
    gate           one product over all three taps
    expectation    centres and widths apart: one exponential, and no square root or division, per basis function
    dropout        16 random bits a decision instead of 64
Shortcuts, also exact, that leave out what nobody reads: see FastModel.forward.
"""
import math

import torch
from torch.nn import functional

from model import FeedForward, Gate, Layer, LayerState, LongTermMemory, Model, sinusoid

TILE = 128                                                      # queries handled at a time


# ------------------------------------------------------------------------------------------------ relative attention

def shifted(buffer, t, n):
    """buffer (..., t, n + 1), whose row i holds the products of query i with r for key j in column t - 1 - i + j, seen
    as (..., t, n) with key j in column j. Element (i, j) lies at i (n + 1) + t - 1 - i + j = (t - 1) + i n + j, so
    the shift is a flat offset of t - 1. Keys that query i may not see hold rubbish."""
    return buffer.flatten(-2)[..., t - 1:t - 1 + t * n].unflatten(-1, (t, n))


class Attention(torch.autograd.Function):
    """out_i = sum_j softmax_j( q_i.k_j + p_i.r_{i-j} ) v_j for the last T of n keys.

    q, p (H, B, T, D): queries with u and w added, scaled;  k, v (H, B, n, D);  r (H, n, D), largest distance first."""

    @staticmethod
    def tiles(T, n):
        """(begin, t, keys): queries begin..begin+t see the first `keys` keys, the last row all of them."""
        return [(i, min(TILE, T - i), n - T + min(i + TILE, T)) for i in range(0, T, TILE)]

    @staticmethod
    def relative(p, r_t, keys):
        """p_i . r_{i-j} of one tile, (H, B, t, keys), with -inf where j is in the future. r_t (H, D, n + 1)."""
        H, B, t, D = p.shape
        last = r_t.shape[2]                                                     # its last column is padding
        products = torch.bmm(p.reshape(H, B * t, D), r_t[:, :, last - keys - 1:])             # (H, B*t, keys + 1)
        score = shifted(products.view(H, B, t, keys + 1), t, keys)
        score[..., keys - t:] += torch.full((t, t), -math.inf, dtype=p.dtype).triu(1)
        return score

    @staticmethod
    def forward(ctx, q, p, k, v, r):
        T, n = q.shape[2], k.shape[2]
        k_t = k.transpose(2, 3).contiguous()                                                  # (H, B, D, n)
        r_t = functional.pad(r.transpose(1, 2), (0, 1))                                       # (H, D, n + 1)
        keep = any(ctx.needs_input_grad)
        out, kept = torch.empty_like(q), []
        for i, t, keys in Attention.tiles(T, n):
            tile = slice(i, i + t)
            score = torch.matmul(q[:, :, tile], k_t[..., :keys])                              # (H, B, t, keys)
            score += Attention.relative(p[:, :, tile], r_t, keys)
            a = torch.softmax(score, -1)
            out[:, :, tile] = a @ v[:, :, :keys]
            kept.append(a if keep else None)
        if keep:
            ctx.save_for_backward(q, p, k, v, r, *kept)
        return out

    @staticmethod
    def backward(ctx, dout):
        q, p, k, v, r, *kept = ctx.saved_tensors
        (H, B, T, D), n = q.shape, k.shape[2]
        v_t = v.transpose(2, 3).contiguous()                                                  # (H, B, D, n)
        r = functional.pad(r, (0, 0, 0, 1))                                                   # (H, n + 1, D)
        dq, dp = torch.empty_like(q), torch.empty_like(p)
        dk_t, dv_t, dr_t = torch.zeros_like(v_t), torch.zeros_like(v_t), v.new_zeros(H, D, n + 1)  # (.., D, n): faster
        for (i, t, keys), a in zip(Attention.tiles(T, n), kept):
            tile, rows = slice(i, i + t), slice(n - keys, n + 1)
            dtile = dout[:, :, tile]
            dv_t[..., :keys] += dtile.transpose(2, 3) @ a
            da = dtile @ v_t[..., :keys]                                                      # (H, B, t, keys)
            dscore = torch._softmax_backward_data(da, a, -1, a.dtype)                         # a (da - sum_j a da)
            dq[:, :, tile] = dscore @ k[:, :, :keys]
            dk_t[..., :keys] += q[:, :, tile].transpose(2, 3) @ dscore
            dproducts = dscore.new_empty(H, B, t, keys + 1)
            dproducts.flatten(-2)[..., :t - 1] = 0                                            # what no key stands on
            dproducts[..., -1, -1] = 0
            shifted(dproducts, t, keys).copy_(dscore)                                         # 0 for future keys
            dproducts = dproducts.view(H, B * t, keys + 1)
            dp[:, :, tile] = torch.bmm(dproducts, r[:, rows]).view(H, B, t, D)
            dr_t[:, :, rows] += torch.bmm(p[:, :, tile].reshape(H, B * t, D).transpose(1, 2), dproducts)
        return dq, dp, dk_t.transpose(2, 3), dv_t.transpose(2, 3), dr_t[..., :n].transpose(1, 2)


# ------------------------------------------------------------------------------------------------- long-term memory

class Reading(torch.autograd.Function):
    """z_i = sum_j r_ij values_j with r_ij = N(mu_i; m_j, s_j^2 + sigma2_i).

    mu, sigma2 (H, B, T); values (H, B, N, D); centres (M), widths2 (W) with N = M W -> z (H, B, T, D).
    r is laid out (H, B, T, W, M): a width at a time, so that what depends on the width alone is computed W times."""

    @staticmethod
    def by_width(values, W):
        """(H, B, N, D), j = centre * W + width -> (H, B, W*M, D)."""
        return values.unflatten(2, (-1, W)).transpose(2, 3).flatten(2, 3)

    @staticmethod
    def forward(ctx, mu, sigma2, values, centres, widths2):
        W, M = len(widths2), len(centres)
        d2 = (mu.unsqueeze(-1) - centres).square_()                                           # (H, B, T, M)
        r = mu.new_empty(*mu.shape, W, M)
        for width in range(W):
            a = (widths2[width] + sigma2).unsqueeze(-1)                                       # (H, B, T, 1)
            torch.addcmul(-0.5 * torch.log(2 * math.pi * a), d2, -0.5 / a, out=r[..., width, :])
        r = r.exp_().flatten(-2)                                                              # (H, B, T, W*M)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(mu, sigma2, values, centres, widths2, r)
        return r @ Reading.by_width(values, W)

    @staticmethod
    def backward(ctx, dz):
        mu, sigma2, values, centres, widths2, r = ctx.saved_tensors
        W = len(widths2)
        dvalues = r.transpose(2, 3) @ dz                                                      # (H, B, W*M, D)
        dvalues = dvalues.unflatten(2, (W, -1)).transpose(2, 3).flatten(2, 3)
        g = (dz @ Reading.by_width(values, W).transpose(2, 3)).mul_(r).unflatten(-1, (W, -1))    # r dr
        d = mu.unsqueeze(-1) - centres                                                        # (H, B, T, M)
        dmu, dsigma2 = torch.zeros_like(mu), torch.zeros_like(sigma2)
        for width in range(W):
            a, g_width = widths2[width] + sigma2, g[..., width, :]
            gd = g_width * d
            dmu -= gd.sum(-1) / a                                                             # dr/dmu = -r d/a
            dsigma2 += 0.5 * (gd.mul_(d).sum(-1) / a - g_width.sum(-1)) / a        # dr/dsigma2 = r (d^2/a^2 - 1/a)/2
        return dmu, dsigma2, dvalues, None, None


class FastGate(Gate):
    def forward(self, x):                                                                     # (B, L, C)
        L, padded = x.shape[1], functional.pad(x, (0, 0, 1, 1))                               # (B, L + 2, C)
        taps = torch.cat([padded[:, k:k + L] for k in range(3)], -1)                          # (B, L, 3C)
        return x * torch.sigmoid_(functional.linear(taps, self.weight.flatten(0, 1).T, self.bias))


class FastMemory(LongTermMemory):
    Gate = FastGate

    def __init__(self, config):
        super().__init__(config)
        self.centres, self.widths2 = self.basis.m[::len(config.widths)], self.basis.s2[:len(config.widths)]
        self.prepared = {}

    def prepare(self, L):
        """What an update by L vectors needs, in the model's dtype: G_fit^T (N, L), G_old^T (N, R), G_new^T (N, L) and,
        for uniform points u, A = G_old^T Psi(u) (N, N)."""
        if L not in self.prepared:
            R, G = self.config.R, self.operator("contraction", L)
            A = G[:R].T @ self.basis(torch.arange(1, R + 1, dtype=torch.float64) / R)
            self.prepared[L] = [M.contiguous().to(self.w_mu) for M in (self.operator("fit", L).T, G[:R].T, G[R:].T, A)]
        return self.prepared[L]

    def update(self, x, coeffs_old=None, points=None):
        """As LongTermMemory.update."""
        x = self.gate(x)
        fit, old, new, A = self.prepare(x.shape[1])
        if coeffs_old is None:
            return fit @ x
        if points is None:
            return A @ coeffs_old.detach() + new @ x                            # A coeffs_old + G_new^T X_new
        return old @ (self.basis(points) @ coeffs_old.detach()) + new @ x

    def densities(self, x, w_q, coeffs):
        """x (B, T, C) -> mu, sigma2 (H, B, T), without keys or queries:
            w_mu . s_i = q_i . (W_K^T (coeffs^T w_mu)) / sqrt(D) = x_i . (W_q (W_K^T (coeffs^T w_mu))) / sqrt(D)."""
        (B, T, C), H = x.shape, self.config.H
        mixed = torch.stack([self.w_mu, self.w_sigma]) @ coeffs @ self.w_k                    # (B, 2, C)
        mixed = mixed.view(B, 2, H, C // H) / math.sqrt(C // H)
        readers = torch.einsum("chd,bphd->bcph", w_q.view(C, H, C // H), mixed)               # (B, C, 2, H)
        mean, variance = (x @ readers.flatten(2)).view(B, T, 2, H).permute(2, 3, 0, 1)        # (H, B, T) each
        return torch.sigmoid(mean), functional.softplus(variance).clamp(min=self.config.sigma2_min)

    def read(self, mu, sigma2, coeffs):
        """mu, sigma2 (H, B, T) -> Z_LTM (B, T, C)."""
        values = heads_first(coeffs @ self.w_v, self.config.H)                                # (H, B, N, D)
        z = Reading.apply(mu.contiguous(), sigma2.contiguous(), values, self.centres.to(mu), self.widths2.to(mu))
        return heads_last(z) @ self.w_out


# ----------------------------------------------------------------------------------------------------------- layers

def heads_first(x, H):
    """(B, L, H*D) -> (H, B, L, D), contiguous."""
    return x.unflatten(-1, (H, -1)).permute(2, 0, 1, 3).contiguous()


def heads_last(x):
    """(H, B, L, D) -> (B, L, H*D)."""
    return x.permute(1, 2, 0, 3).flatten(2)


class Dropout(torch.autograd.Function):
    """Each element survives if 16 random bits, read as an integer in [-2^15, 2^15), reach the threshold."""

    @staticmethod
    def forward(ctx, x, p):
        threshold = round(p * 65536)
        bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-2 ** 63, None)   # four decisions each
        keep = bits.view(torch.int16)[:x.numel()].view(x.shape) >= threshold - 32768
        ctx.scale = 65536 / (65536 - threshold)
        ctx.save_for_backward(keep)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, dy):
        return (dy * ctx.saved_tensors[0]).mul_(ctx.scale), None


class FastDropout(torch.nn.Dropout):
    def forward(self, x):
        return Dropout.apply(x, self.p) if self.training and self.p > 0 else x


class FastFeedForward(FeedForward):
    def __init__(self, C, F, dropout):
        super().__init__(C, F, dropout)
        self.dropout = FastDropout(dropout)

    def forward(self, x):
        hidden = functional.linear(x, self.w1.T, self.b1).relu_()
        return self.dropout(functional.linear(self.dropout(hidden), self.w2.T, self.b2))


class FastLayer(Layer):
    Memory, FeedForward = FastMemory, FastFeedForward

    def __init__(self, config):
        super().__init__(config)
        self.dropout = FastDropout(config.dropout)

    def attend(self, x, context, u, w):
        """Relative attention of the queries x (B, T, C), the last T of context (B, n, C) -> z (B, T, C)."""
        a, H, n, C = self.attention, self.config.H, context.shape[1], x.shape[2]
        scale = 1 / math.sqrt(C // H)
        q = heads_first(x @ (a.w_q * scale), H)                                               # (H, B, T, D)
        k, v = (heads_first(half, H) for half in (context @ torch.cat([a.w_k, a.w_v], 1)).split(C, -1))
        r = (self.sinusoid(n).to(x) @ a.w_r).view(n, H, C // H).transpose(0, 1)               # (H, n, D)
        u, w = (bias[:, None, None] * scale for bias in (u, w))                               # (H, 1, 1, D)
        return heads_last(Attention.apply(q + u, q + w, k, v, r)) @ a.w_o

    def sinusoid(self, n):
        """P (n, C) of the distances n-1 .. 0; the largest computed so far is kept and its end returned."""
        if not hasattr(self, "kept_sinusoid") or len(self.kept_sinusoid) < n:
            self.kept_sinusoid = sinusoid(torch.arange(n - 1, -1, -1), self.config.C).to(self.attention.w_r)
        return self.kept_sinusoid[len(self.kept_sinusoid) - n:]

    def forward(self, x, state, u, w, offset, rows, loss):
        """As Layer.forward, but y holds only the positions `rows` = (lo, hi) of x, and KL is there only for a loss."""
        stm, coeffs, points = self.remember(x, state, offset)
        context = torch.cat([stm, x], dim=1)
        (lo, hi), kl, mu, sigma2 = rows, x.new_zeros(()), None, None
        if coeffs is not None and (loss or self.config.sticky or hi > lo):
            mu, sigma2 = self.memory.densities(self.norm1(x) if self.config.pre_norm else x, self.attention.w_q, coeffs)
            kl = self.memory.kl(mu, sigma2) if loss else kl
        y = x[:, lo:hi]
        if hi > lo:
            visible = context[:, :stm.shape[1] + hi]
            if self.config.pre_norm:
                z = self.attend(self.norm1(y), self.norm1(visible), u, w)
            else:
                z = self.attend(y, visible, u, w)
            if coeffs is not None:
                z = z + self.memory.read(mu[..., lo:hi], sigma2[..., lo:hi], coeffs)
            if self.config.pre_norm:
                y = y + self.dropout(z)
                y = y + self.ff(self.norm2(y))
            else:
                y = self.norm1(y + self.dropout(z))
                y = self.norm2(y + self.ff(y))
        after = LayerState(context.detach(), None if coeffs is None else coeffs.detach())
        if self.config.sticky and mu is not None:
            after.mu, after.sigma2 = (value.detach().transpose(0, 1) for value in (mu, sigma2))
        return y, after, kl, {"points": points}


class FastModel(Model):
    """A Model with the same parameters, under the same names, that takes and returns the same states."""
    Layer = FastLayer

    def __init__(self, config):
        if config.attention_dropout > 0:
            raise ValueError("[FastModel] attention dropout is not supported; use model.Model")
        super().__init__(config)
        self.dropout = FastDropout(config.dropout)

    def forward(self, tokens, states, offsets=None, rows=None, loss=True):
        """As Model.forward, but logits (B, hi - lo, V) only for the positions rows = (lo, hi), by default all of them,
        and KL only if there is to be a loss. Nobody reads the last layer's output elsewhere: not the memories, which
        hold the layers' inputs, and not KL, which needs the densities alone."""
        every = (0, tokens.shape[1])
        x = self.dropout(self.embedding.weight[tokens] * math.sqrt(self.config.C))            # (B, T, C)
        after, inside, kl = [], [], 0
        for l, layer in enumerate(self.layers):
            wanted = every if rows is None or l + 1 < len(self.layers) else rows
            offset = None if offsets is None else offsets[l]
            x, state, layer_kl, values = layer(x, states[l], self.attention.u, self.attention.w, offset, wanted, loss)
            after.append(state)
            inside.append(values)
            kl = kl + layer_kl
        if self.config.pre_norm:
            x = self.final_norm(x)
        return self.dropout(x) @ self.embedding.weight.T + self.head.bias, after, kl, inside
