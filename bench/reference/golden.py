"""Writes the golden files: tiny models, their gradients and ten training steps, and the operators of the memory.

    python golden.py --out ../../tests/golden            what the tests compare with (double)
    python golden.py --check                             checks the twin itself by independent means

transformer_xl, infinity_uniform and infinity_sticky hold
    metadata "config"                   JSON of the hyper-parameters
    param.<name>  final.<name>          parameters before the first and after the last step
    tokens targets                      (steps, B, n) int32; target -1 is not scored
    losses grad_norms                   (steps); norm before clipping
and of step 0, before anything was learnt,
    logits                              (B, n, V) of all segments
    loss cross_entropy                  (), of the batch; loss = cross_entropy + lambda_KL * sum(kl)
    kl                                  one per segment that holds targets, summed over layers
    grad.<name>                         before clipping
    coeffs.{segment}.{layer}            (B, N, C) the memory this segment reads
    mu.{segment}.{layer} sigma2...      (B, H, T)
and, when sticky, of every step
    offsets                             (steps, segments, layers, B) of the stratified draw
    points.{step}.{segment}.{layer}     (B, R) at which the old signal was read
memory.safetensors: see memory_file().
"""
import argparse
import json
import os

import torch

import check
import safetensors_io
import training
from model import Basis, Config, Model, contraction_positions, fit_positions, ridge_operator

STEPS, B, n = 10, 3, 27
SMALL = dict(vocab=11, layers=2, C=12, H=3, F=20, T=6, S=5, dropout=0.0, N=8, R=10, widths=(0.1, 0.3), tau=0.75,
             lambda_=1.0, sigma2_min=1e-6, lambda_kl=1e-2, sigma_0=0.05, clip=0.25, lr=3e-3, batch=B)
MODELS = {"transformer_xl": dict(SMALL, model="transformer-xl", S=7),
          "infinity_uniform": dict(SMALL),
          "infinity_sticky": dict(SMALL, sticky=True)}
WIDTHS = {"w_v": 1.0, "w_out": 1.0, "w_mu": 3.0, "w_sigma": 6.0}                 # of the memory's random parameters


def random_model(config, seed, dtype=torch.float64):
    """Every parameter N(0, 0.3^2), gamma around 1, so that no part of the model is idle. What so small a memory holds
    is small too, hence larger numbers for what reads it: otherwise all densities would be alike, and unheard."""
    torch.manual_seed(seed)
    model = Model(config).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            width = WIDTHS.get(name.split("memory.")[-1], 0.3)
            p.copy_(width * torch.randn(p.shape, dtype=torch.float64) + (1.0 if name.endswith("gamma") else 0.0))
    return model.to(dtype)


def random_documents(config, seed):
    """tokens, targets (STEPS, B, n) int32; targets in the last two segments only, some of them missing."""
    generator = torch.Generator().manual_seed(seed)
    tokens, targets = torch.randint(config.vocab, (2, STEPS, B, n), generator=generator, dtype=torch.int32)
    first_scored = training.segments(n, config.T)[-2][0]
    missing = torch.rand((STEPS, B, n), generator=generator) < 0.2
    missing[..., :first_scored] = True
    return tokens, targets.masked_fill(missing, training.IGNORE)


def model_file(config, seed, dtype):
    """Ten training steps of one model -> {name: tensor}."""
    model = random_model(config, seed, dtype)
    tokens, targets = random_documents(config, seed + 1)
    shape = (STEPS, len(training.segments(n, config.T)), config.layers, B)
    offsets = torch.rand(shape, generator=torch.Generator().manual_seed(seed + 2), dtype=torch.float64).to(dtype)
    out = {"tokens": tokens, "targets": targets, **({"offsets": offsets} if config.sticky else {})}
    out.update((f"param.{name}", p.detach().clone()) for name, p in model.named_parameters())
    optimiser, losses, norms = training.adam(model), [], []
    for step in range(STEPS):
        logits, kls = torch.empty(B, n, config.vocab, dtype=dtype), []

        def record(segment, begin, end, segment_logits, kl, inside):
            logits[:, begin:end] = segment_logits
            kls.extend([] if kl is None else [kl])
            for layer, values in enumerate(inside):
                kept = ("points", "coeffs", "mu", "sigma2") if step == 0 else ("points",)
                for name in (name for name in kept if values[name] is not None):
                    prefix = f"points.{step}" if name == "points" else name
                    out[f"{prefix}.{segment}.{layer}"] = values[name].detach().clone()

        optimiser.zero_grad(set_to_none=True)
        losses.append(training.forward_backward(model, tokens[step], targets[step],
                                                offsets[step] if config.sticky else None, record))
        if step == 0:
            kl = torch.stack(kls) if config.model == "infinity" else torch.zeros(len(kls), dtype=dtype)
            scored = int((targets[0] != training.IGNORE).sum())
            out["logits"], out["kl"], out["loss"] = logits, kl, torch.tensor(losses[0], dtype=torch.float64)
            out["cross_entropy"] = training.cross_entropy(logits, targets[0], scored)
            out.update((f"grad.{name}", p.grad.clone()) for name, p in model.named_parameters())
        norms.append(training.clip(list(model.parameters()), config.clip))
        optimiser.step()
    out["losses"], out["grad_norms"] = torch.tensor(losses, dtype=torch.float64), torch.stack(norms)
    out.update((f"final.{name}", p.detach().clone()) for name, p in model.named_parameters())
    return {name: t.double() if t.is_floating_point() else t for name, t in out.items()}


# ------------------------------------------------------------------------------------------------------ the memory

FITS = [dict(L=L, N=N, widths=widths, **{"lambda": lambda_}, padded=padded)
        for L, N, widths, lambda_ in [(12, 8, (0.1, 0.3), 1.0), (7, 8, (0.1, 0.3), 0.5), (1, 6, (0.05, 0.1, 0.2), 1.0),
                                      (64, 32, (0.01, 0.05), 1.0), (33, 16, (0.005, 0.01), 0.5), (5, 1, (0.2,), 0.1)]
        for padded in (True, False)]
CONTRACTIONS = [dict(R=R, L=L, N=N, tau=tau, widths=widths, **{"lambda": lambda_}, padded=padded)
                for R, L, N, tau, widths, lambda_ in [(10, 6, 8, 0.75, (0.1, 0.3), 1.0),
                                                      (8, 7, 8, 0.5, (0.1, 0.3), 0.5),
                                                      (1, 1, 6, 0.75, (0.05, 0.1, 0.2), 1.0),
                                                      (32, 31, 32, 0.5, (0.01, 0.05), 0.5)]
                for padded in (True, False)]
ATTENTIONS = [dict(T=5, N=8, D=4, widths=(0.1, 0.3)), dict(T=33, N=32, D=7, widths=(0.01, 0.05)),
              dict(T=1, N=1, D=1, widths=(0.2,)), dict(T=17, N=6, D=3, widths=(0.005, 0.01, 0.1))]


def memory_file(seed):
    """fit.{k}.positions (L), .G (L, N);  contraction.{k}.positions (R + L), .G_old (R, N), .G_new (L, N);
    attention.{k}: out (T, D) = r values with r (T, N) from mu, sigma2 (T) and values (N, D), and the gradients
    dmu, dsigma2, dvalues for the cotangent dout (T, D);  the metadata has a JSON list of the cases of each kind."""
    torch.manual_seed(seed)
    out = {}
    for k, case in enumerate(FITS):
        out[f"fit.{k}.positions"] = fit_positions(case["L"])
        basis = Basis(case["N"], case["widths"])
        out[f"fit.{k}.G"] = ridge_operator(out[f"fit.{k}.positions"], basis, case["lambda"], case["padded"])
    for k, case in enumerate(CONTRACTIONS):
        R, name = case["R"], f"contraction.{k}"
        out[f"{name}.positions"] = contraction_positions(R, case["L"], case["tau"])
        basis = Basis(case["N"], case["widths"])
        G = ridge_operator(out[f"{name}.positions"], basis, case["lambda"], case["padded"])
        out[f"{name}.G_old"], out[f"{name}.G_new"] = G[:R], G[R:]
    for k, case in enumerate(ATTENTIONS):
        T, N, D, name = case["T"], case["N"], case["D"], f"attention.{k}"
        mu = torch.rand(T, dtype=torch.float64, requires_grad=True)
        sigma2 = (10 ** (-4 * torch.rand(T, dtype=torch.float64))).requires_grad_()     # from 1e-4 to 1
        values = torch.randn(N, D, dtype=torch.float64, requires_grad=True)
        result = Basis(N, case["widths"]).expectation(mu, sigma2) @ values
        dout = torch.randn(T, D, dtype=torch.float64)
        result.backward(dout)
        out.update({f"{name}.mu": mu, f"{name}.sigma2": sigma2, f"{name}.values": values, f"{name}.out": result,
                    f"{name}.dout": dout, f"{name}.dmu": mu.grad, f"{name}.dsigma2": sigma2.grad,
                    f"{name}.dvalues": values.grad})
    cases = {"fit": FITS, "contraction": CONTRACTIONS, "attention": ATTENTIONS}
    return out, {kind: json.dumps(list_of_cases) for kind, list_of_cases in cases.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="DIR", help="folder to write the four files to")
    parser.add_argument("--seed", type=int, default=1, help="default: 1")
    parser.add_argument("--float", action="store_true", help="compute the models in float32 (files stay F64)")
    parser.add_argument("--double", action="store_true", help="compute in double: the default")
    parser.add_argument("--check", action="store_true", help="check the twin by finite differences, quadrature ...")
    arguments = parser.parse_args()
    if not arguments.out and not arguments.check:
        parser.error("nothing to do: give --out DIR, --check, or both")
    if arguments.float and arguments.double:
        parser.error("--float and --double exclude each other")
    torch.set_num_threads(1)
    if arguments.check:
        check.everything(arguments.seed)
    if arguments.out:
        os.makedirs(arguments.out, exist_ok=True)
        dtype = torch.float32 if arguments.float else torch.float64
        files = {name: (model_file(Config(**options), arguments.seed, dtype), {"config": Config(**options).to_json()})
                 for name, options in MODELS.items()}
        files["memory"] = memory_file(arguments.seed)
        for name, (tensors, metadata) in files.items():
            path = os.path.join(arguments.out, name + ".safetensors")
            safetensors_io.save(path, tensors, metadata)
            print(f"{path}: {len(tensors)} tensors, {os.path.getsize(path) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
