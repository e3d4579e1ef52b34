"""Times one training step in PyTorch: all segments of a batch of documents, loss, backward, clipping, Adam.

    python bench.py --preset paper-4000 --model infinity --threads 2 --steps 5
    python bench.py --check          fast_model.py against model.py, in double

Prints each step to standard error as it ends, and one line of JSON: `seconds` is the median over the steps,
`cpu_seconds` that of the processor time of all threads together, which other programs on the machine disturb less.
"""
import argparse
import os
import sys


# How malloc treats what PyTorch frees. `keep`: it stays with the process, in huge pages; PyTorch is fastest so.
# `thresholds`: only the two thresholds are raised, the usual advice. glibc takes at most 32 MiB for the first, so that
# tensors above it are still given back and cost page faults each time.
MALLOC = {"keep": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20),
                   "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
          "thresholds": {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}}


def malloc_option(parser):
    parser.add_argument("--malloc", choices=MALLOC, default="keep",
                        help="keep: what is freed stays with the process; thresholds: only those are raised")


def relaunch():
    """Starts this program anew, before PyTorch is loaded, with that malloc and with idle threads that sleep."""
    if not os.environ.get("BENCH_RELAUNCHED"):
        parser = argparse.ArgumentParser(add_help=False)
        malloc_option(parser)
        settings = MALLOC[parser.parse_known_args()[0].malloc]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
        os.execve(sys.executable, [sys.executable] + sys.argv,
                  {**environment, **settings, "OMP_WAIT_POLICY": "PASSIVE", "BENCH_RELAUNCHED": "1"})


if __name__ == "__main__" and "--no-relaunch" not in sys.argv:
    relaunch()

import json
import resource
import statistics
import time

import torch

import fast_model
import training
from difference import largest, relative_difference
from model import Config, Model

# tokens in a document: the sequence, a separator, and the symbols in order, which are scored
PAPER = dict(vocab=22, layers=3, C=300, H=6, F=300, T=1024, S=1024, N=512, R=512, widths=(0.01, 0.05), tau=0.75,
             lambda_=1.0, dropout=0.1, batch=8)
PRESETS = {"paper-4000": dict(PAPER, length=4000), "paper-8000": dict(PAPER, length=8000),
           "paper-16000": dict(PAPER, length=16000),
           "demo": dict(vocab=10, layers=2, C=64, H=4, F=128, T=64, S=64, N=64, R=512, widths=(0.01, 0.05), tau=0.75,
                        lambda_=1.0, dropout=0.0, batch=16, length=500),
           "tiny": dict(vocab=22, layers=2, C=32, H=4, F=32, T=64, S=64, N=32, R=32, dropout=0.1, batch=2, length=200)}
STM_OF_TRANSFORMER_XL = {"paper": 2048, "demo": 64, "tiny": 128}


def documents(config, length, seed=0):
    """A batch of sorting documents: tokens, targets (B, length + 1 + SYMBOLS)."""
    symbols = separator = config.vocab - 2
    torch.manual_seed(seed)
    tokens = torch.randint(symbols, (config.batch, length))
    answer = torch.stack([torch.bincount(row, minlength=symbols).argsort(descending=True) for row in tokens])
    tokens = torch.cat([tokens, torch.full((config.batch, 1), separator), answer], 1)
    targets = torch.full_like(tokens, -1)
    targets[:, length:length + symbols] = answer
    return tokens, targets


def build(name, preset, plain, sticky, dtype=None, **changes):
    """The model `name` of a preset, weights N(0, 0.02), and the length of its sequences."""
    options = dict(PRESETS[preset], model=name, sticky=sticky and name == "infinity", **changes)
    length = options.pop("length")
    if name == "transformer-xl":
        options["S"] = STM_OF_TRANSFORMER_XL[preset.split("-")[0]]
    torch.manual_seed(0)
    model = (Model if plain else fast_model.FastModel)(Config(**options))
    with torch.no_grad():
        for p in model.parameters():
            if not torch.all(p == 1):                                       # all but the gammas
                p.normal_(0, 0.02)
    return model.to(dtype or torch.float32), length


def step(model, optimiser, tokens, targets, **options):
    optimiser.zero_grad(set_to_none=True)
    offsets = None
    if model.config.sticky:
        segments = len(training.segments(tokens.shape[1], model.config.T))
        offsets = torch.rand(segments, model.config.layers, len(tokens))
    loss = training.forward_backward(model, tokens, targets, offsets, **options)
    training.clip(list(model.parameters()), model.config.clip)
    optimiser.step()
    return loss


def peak_mib(device):
    """Most memory so far: of this process, or of its tensors on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def now(device):
    """Seconds, when all work given to the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def measure(arguments):
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("[bench] PyTorch finds no GPU: leave out --device cuda")
    device = arguments.device
    torch.set_default_device(device)
    base = peak_mib(device)                                                 # PyTorch itself, before any tensor
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    model, length = build(arguments.model, arguments.preset, arguments.plain, arguments.sticky)
    shortcuts = {} if arguments.plain else dict(skip_fill=arguments.skip_fill, skip_unscored=arguments.skip_unscored)
    try:
        optimiser = training.adam(model, fused=True)
    except (TypeError, RuntimeError):                                       # older PyTorch
        optimiser = training.adam(model, foreach=True)
    tokens, targets = documents(model.config, length)
    walls, cpus = [], []
    for i in range(arguments.steps + 1):                                    # the first warms up: operators, allocations
        wall, cpu = now(device), time.process_time()
        step(model, optimiser, tokens, targets, **shortcuts)
        walls.append(now(device) - wall)
        cpus.append(time.process_time() - cpu)
        print(f"step {i + 1} of {arguments.steps + 1}: {walls[-1]:.2f} s", file=sys.stderr, flush=True)
    walls, cpus = walls[1:], cpus[1:]
    print(json.dumps({
        "preset": arguments.preset, "model": arguments.model, "seconds": round(statistics.median(walls), 4),
        "steps": arguments.steps, "peak_mib": peak_mib(device), "base_mib": base, "device": device,
        "torch": torch.__version__, "threads": arguments.threads, "fastest": round(min(walls), 4),
        "cpu_seconds": round(statistics.median(cpus), 4), "malloc": arguments.malloc,
        "plain": arguments.plain, "sticky": model.config.sticky,
        "skip_fill": shortcuts.get("skip_fill", False), "skip_unscored": shortcuts.get("skip_unscored", False)}))


def check():
    """Loss and gradients of the fast model, with and without shortcuts, against the plain one, in double; and its
    dropout by the share of what survives and by its gradient."""
    fast_model.TILE = 24                                        # several tiles a segment, the last one short
    for name, sticky, pre_norm in [("transformer-xl", False, False), ("transformer-xl", False, True),
                                   ("infinity", False, False), ("infinity", True, False), ("infinity", False, True)]:
        changes = dict(dropout=0.0, pre_norm=pre_norm, lambda_kl=1e-3)
        plain, length = build(name, "tiny", True, sticky, torch.float64, **changes)
        fast, _ = build(name, "tiny", False, sticky, torch.float64, **changes)
        with torch.no_grad():
            for p in plain.parameters():                                    # livelier weights than at the start
                p.add_(torch.randn_like(p), alpha=0.2)
        fast.load_state_dict(plain.state_dict())
        tokens, targets = documents(plain.config, length)
        segments = len(training.segments(tokens.shape[1], plain.config.T))
        offsets = torch.rand(segments, plain.config.layers, len(tokens), dtype=torch.float64)
        wanted = training.forward_backward(plain, tokens, targets, offsets)
        for skip in (False, True):
            fast.zero_grad(set_to_none=True)
            loss = training.forward_backward(fast, tokens, targets, offsets, skip_fill=skip, skip_unscored=skip)
            errors = {"loss": abs(loss - wanted) / abs(wanted)}
            for (parameter, p), q in zip(plain.named_parameters(), fast.parameters()):
                errors[parameter] = relative_difference(q.grad, p.grad)
            wrong = {key: error for key, error in errors.items() if not error <= 1e-10}
            print(f"  {name}, sticky {sticky}, pre-norm {pre_norm}, shortcuts {skip}: {largest(errors.values()):.1e}")
            if wrong:
                raise SystemExit(f"[check] fast and plain model differ: got {wrong}, expected at most 1e-10")
    x = torch.ones(1000, 999, requires_grad=True)
    y = fast_model.FastDropout(0.1)(x)
    y.backward(torch.full_like(y, 2))
    scale, share = float(y.detach().max()), float((y != 0).float().mean())
    print(f"  dropout: {share:.4f} survive, scaled by {scale:.5f}")
    if not (abs(share - 0.9) < 0.002 and abs(scale * 0.9 - 1) < 1e-4 and torch.equal(x.grad, 2 * y.detach())):
        raise SystemExit(f"[check] dropout: got a share of {share} and a scale of {scale}, expected 0.9 and 1/0.9")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="paper-4000")
    parser.add_argument("--model", choices=["infinity", "transformer-xl"], default="infinity")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="default: all processors")
    parser.add_argument("--steps", type=int, default=5, help="timed steps, after one to warm up; default: 5")
    parser.add_argument("--sticky", action="store_true", help="sticky memories")
    parser.add_argument("--plain", action="store_true", help="model.py instead of fast_model.py")
    parser.add_argument("--no-skip-fill", dest="skip_fill", action="store_false",
                        help="also compute the last layer of segments that only fill the memories")
    parser.add_argument("--no-skip-unscored", dest="skip_unscored", action="store_false",
                        help="also compute the last layer at positions that are not scored")
    malloc_option(parser)
    parser.add_argument("--no-relaunch", action="store_true", help="keep the environment as it is")
    parser.add_argument("--check", action="store_true", help="compare the fast model with the plain one and stop")
    arguments = parser.parse_args()
    if arguments.steps < 1 or arguments.threads < 1:
        parser.error("--steps and --threads must be at least 1")
    check() if arguments.check else measure(arguments)


if __name__ == "__main__":
    main()
