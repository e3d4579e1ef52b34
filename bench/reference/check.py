"""Checks of the plain model by independent means; each prints its largest error and fails if that is too large."""
import math

import torch

import training
from difference import largest, largest_difference, relative_difference
from model import (Basis, Config, Gate, LongTermMemory, Model, RelativeAttention, contraction_positions, fit_positions,
                   padding_positions, ridge_operator, sticky_points)

DOUBLE = torch.float64


def randomised(module, seed=0, width=0.5):
    """The module in double, every parameter drawn anew from N(0, width^2)."""
    generator, module = torch.Generator().manual_seed(seed), module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(width * torch.randn(p.shape, generator=generator, dtype=DOUBLE))
    return module


def expect(what, error, limit):
    error = float(torch.as_tensor(error).detach())
    print(f"  {what:<76} error {error:.1e}, allowed {limit:.0e}")
    if not error <= limit:
        raise SystemExit(f"[check] {what}: got error {error}, expected at most {limit}")


# ---------------------------------------------------------------------------------------------------------- memory

def quadrature():
    """E_p[psi_j] and its derivatives against the trapezoid rule over the whole line."""
    basis = Basis(6, (0.01, 0.05, 0.3))
    mu = torch.tensor([0.0, 0.37, 0.9], dtype=DOUBLE, requires_grad=True)
    sigma2 = torch.tensor([1e-4, 0.02, 0.5], dtype=DOUBLE, requires_grad=True)
    r = basis.expectation(mu, sigma2)                                                           # (3, 6)
    t = torch.linspace(-8, 8, 400001, dtype=DOUBLE)

    def integral(mu, sigma2):
        p = torch.exp(-(t - mu[:, None]) ** 2 / (2 * sigma2[:, None])) / (2 * math.pi * sigma2[:, None]).sqrt()
        return p @ basis(t) * (t[1] - t[0])

    expect("E_p[psi] against quadrature", relative_difference(r, integral(mu, sigma2)), 1e-10)
    d, a = mu[:, None] - basis.m, basis.s2 + sigma2[:, None]
    cotangent = torch.randn(3, 6, dtype=DOUBLE)
    dmu, dsigma2 = torch.autograd.grad(r, (mu, sigma2), cotangent)
    expect("dE/dmu = -r d/a", relative_difference(dmu, (cotangent * -r * d / a).sum(1)), 1e-12)
    wanted = (cotangent * r * (d ** 2 / a ** 2 - 1 / a) / 2).sum(1)
    expect("dE/dsigma2 = r (d^2/a^2 - 1/a)/2", relative_difference(dsigma2, wanted), 1e-12)


def normal_equations():
    """coeffs = G^T X must make the gradient of |F^T coeffs - X|^2 + lambda |coeffs|^2 zero, padding included."""
    basis, lambda_ = Basis(16, (0.02, 0.1)), 0.7
    for padded in (True, False):
        worst = 0.0
        for positions in [fit_positions(L) for L in (1, 2, 7, 64)] + [contraction_positions(9, 4, 0.75)]:
            P = len(positions)
            X, everywhere = torch.randn(P, 3, dtype=DOUBLE), positions
            targets = X
            if padded:
                left, right = padding_positions(P)
                everywhere = torch.cat([left, positions, right])
                targets = torch.cat([torch.zeros(len(left), 3), X, torch.zeros(len(right), 3)])
            coeffs = (ridge_operator(positions, basis, lambda_, padded).T @ X).requires_grad_()
            loss = (basis(everywhere) @ coeffs - targets).square().sum() + lambda_ * coeffs.square().sum()
            gradient, = torch.autograd.grad(loss, coeffs)
            worst = largest([worst, float(gradient.abs().max())])
        expect(f"normal equations, padded = {padded}", worst, 1e-10)


def padding():
    """Exact positions: the padding of L midpoints goes on with the same grid and ends within 1/2."""
    for L in (1, 2, 7, 8):
        left, right = padding_positions(L)
        grid = torch.cat([left, fit_positions(L), right])
        wanted = (torch.arange(len(grid), dtype=DOUBLE) - len(left) + 0.5) / L
        count = sum(1 for k in range(1, 3 * L + 3) if 2 * k - 1 <= L)                       # (k - 1/2)/L <= 1/2
        expect(f"padding of L = {L}: one regular grid, {count} points a side",
               largest_difference(grid, wanted) + abs(len(left) - count), 1e-15)


def sticky():
    """The stratified draw against a literal walk through the bins."""
    K, R, B = 128, 10, 2
    mu, sigma2 = torch.rand(B, 3, 4, dtype=DOUBLE), torch.rand(B, 3, 4, dtype=DOUBLE) * 0.05
    offset = torch.rand(B, dtype=DOUBLE)
    points = sticky_points(mu, sigma2, offset, R, K)
    edge = lambda k: -1e-6 if k == 0 else 1 + 1e-6 if k == K else k / K
    phi = lambda z: 0.5 * math.erfc(-z / math.sqrt(2))
    for b in range(B):
        pairs = list(zip(mu[b].flatten().tolist(), sigma2[b].flatten().tolist()))
        mass = [sum(phi((edge(k + 1) - m) / v ** 0.5) - phi((edge(k) - m) / v ** 0.5) for m, v in pairs)
                for k in range(K)]
        drawn = []
        for i in range(R):
            k, cumulative = 0, mass[0]
            while cumulative / sum(mass) <= (i + float(offset[b])) / R:
                k += 1
                cumulative += mass[k]
            drawn.append(edge(k))
        expect(f"sticky points of row {b}", largest_difference(points[b], torch.tensor(drawn, dtype=DOUBLE)), 1e-12)
    nan = torch.full((1, 1, 1), math.nan, dtype=DOUBLE)
    uniform = torch.arange(1, 5, dtype=DOUBLE) / 4
    expect("no usable mass: uniform points", largest_difference(sticky_points(nan, nan, offset[:1], 4), uniform), 0)


def gate():
    """Three taps against torch's own Conv1d."""
    module = randomised(Gate(5))
    x = torch.randn(2, 7, 5, dtype=DOUBLE)
    conv = torch.nn.functional.conv1d(x.transpose(1, 2), module.weight.permute(2, 1, 0), module.bias, padding=1)
    expect("gate against Conv1d", relative_difference(module(x), x * torch.sigmoid(conv.transpose(1, 2))), 1e-12)


# ------------------------------------------------------------------------------------------------------- attention

@torch.no_grad()
def loops():
    """Relative attention and continuous attention against loops over single numbers."""
    config = Config(C=6, H=2, N=4, R=5, widths=(0.1, 0.3), dropout=0.0)
    attention, memory = randomised(RelativeAttention(config)), randomised(LongTermMemory(config), 1)
    T, past, D = 4, 3, 3
    x, stm = torch.randn(1, T, 6, dtype=DOUBLE), torch.randn(1, past, 6, dtype=DOUBLE)
    u, w = torch.randn(2, D, dtype=DOUBLE), torch.randn(2, D, dtype=DOUBLE)
    coeffs = torch.randn(1, 4, 6, dtype=DOUBLE)
    context = torch.cat([stm, x], 1)
    z, heads_q = attention(x, context, u, w)
    z_ltm, mu, sigma2 = memory(heads_q, coeffs)

    dot = lambda a, b: sum(float(p) * float(q) for p, q in zip(a, b))
    all_q, all_k, all_v = x[0] @ attention.w_q, context[0] @ attention.w_k, context[0] @ attention.w_v
    ltm_k, ltm_v = coeffs[0] @ memory.w_k, coeffs[0] @ memory.w_v
    centres, variances = [0, 0, 1, 1], [0.01, 0.09, 0.01, 0.09]
    a, a_ltm = torch.zeros(T, 6, dtype=DOUBLE), torch.zeros(T, 6, dtype=DOUBLE)
    for h in range(2):
        head = slice(h * D, h * D + D)
        for i in range(T):
            q, scores = all_q[i, head], []
            for j in range(i + past + 1):
                angle = [(i + past - j) * 10000 ** (-2 * k / 6) for k in range(3)]
                P = torch.tensor([math.sin(v) for v in angle] + [math.cos(v) for v in angle], dtype=DOUBLE)
                r = (P @ attention.w_r)[head]
                scores.append((dot(q + u[h], all_k[j, head]) + dot(q + w[h], r)) / math.sqrt(D))
            total = sum(math.exp(s) for s in scores)
            for j, s in enumerate(scores):
                a[i, head] += math.exp(s) / total * all_v[j, head]
            s = [dot(q, ltm_k[n, head]) / math.sqrt(D) for n in range(4)]
            mean = 1 / (1 + math.exp(-dot(memory.w_mu, s)))
            variance = math.log(1 + math.exp(dot(memory.w_sigma, s)))
            for n in range(4):
                both = variances[n] + variance
                density = math.exp(-(mean - centres[n]) ** 2 / (2 * both)) / math.sqrt(2 * math.pi * both)
                a_ltm[i, head] += density * ltm_v[n, head]
    expect("relative attention against loops", relative_difference(z[0], a @ attention.w_o), 1e-12)
    expect("continuous attention against loops", relative_difference(z_ltm[0], a_ltm @ memory.w_out), 1e-12)


# ------------------------------------------------------------------------------------------------------- gradients

def finite_differences(config, seed):
    """Autograd against central differences, three entries of every parameter.

    No gradient crosses a segment border, so the states that enter each scored segment are recorded first and held."""
    model = randomised(Model(config), seed, 0.4)
    B, n = 2, 27
    tokens, targets = torch.randint(config.vocab, (2, B, n))
    cuts = training.segments(n, config.T)
    targets[:, :cuts[-2][0]] = training.IGNORE
    offsets = torch.rand(len(cuts), config.layers, B, dtype=DOUBLE)
    training.forward_backward(model, tokens, targets, offsets)

    entering, states = [], model.start()
    with torch.no_grad():
        for index, (begin, end) in enumerate(cuts):
            entering.append(states)
            states = model(tokens[:, begin:end], states, offsets[index])[1]

    def loss():
        total, scored = 0.0, int((targets != training.IGNORE).sum())
        for index in (len(cuts) - 2, len(cuts) - 1):
            begin, end = cuts[index]
            logits, _, kl, _ = model(tokens[:, begin:end], entering[index], offsets[index])
            total += training.cross_entropy(logits, targets[:, begin:end], scored) + config.lambda_kl * kl
        return float(total)

    h, worst, scale = 1e-5, 0.0, 0.0
    with torch.no_grad():
        for p in model.parameters():
            for index in torch.randint(p.numel(), (3,)).tolist():
                entry, kept = p.view(-1)[index:index + 1], float(p.view(-1)[index])
                up, down = (entry.fill_(kept + sign * h) is not None and loss() for sign in (1, -1))
                entry.fill_(kept)
                worst = largest([worst, abs((up - down) / (2 * h) - float(p.grad.view(-1)[index]))])
            scale = largest([scale, float(p.grad.abs().max())])
    kind = "sticky" if config.sticky else "pre-norm" if config.pre_norm else "plain"
    expect(f"finite differences, {config.model}, {kind}", worst / scale, 1e-8)


def everything(seed):
    torch.manual_seed(seed)
    quadrature()
    normal_equations()
    padding()
    sticky()
    gate()
    loops()
    small = dict(vocab=7, layers=2, C=6, H=2, F=5, T=6, S=5, dropout=0.0, N=8, R=10, widths=(0.1, 0.3), lambda_kl=1e-2)
    for options in (dict(model="transformer-xl"), dict(), dict(sticky=True), dict(pre_norm=True), dict(S=0, mu_0=0.5)):
        finite_differences(Config(**dict(small, **options)), seed)
