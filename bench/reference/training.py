"""One training step on a batch of documents: segments, loss, clipping, Adam."""
import torch
from torch.nn import functional

IGNORE = -1                                     # a target that is not scored


def segments(n, T):
    """A document of n tokens in segments of T; the last may be shorter: [(begin, end), ...]."""
    return [(begin, min(begin + T, n)) for begin in range(0, n, T)]


def cross_entropy(logits, targets, scored):
    """Sum over the scored tokens of one segment, divided by the scored tokens of the whole batch.
    logits (B, T, V), targets (B, T)."""
    summed = functional.cross_entropy(logits.flatten(0, 1), targets.flatten().long(), ignore_index=IGNORE,
                                      reduction="sum")
    return summed / scored


def forward_backward(model, tokens, targets, offsets=None, on_segment=None, skip_fill=False, skip_unscored=False):
    """Adds the gradients of one batch; tokens, targets (B, n); offsets (segments, layers, B) for sticky memories.

    Segments without targets run without gradient and only fill the memories. A segment with targets has the loss
    cross entropy + lambda_KL * KL, and is walked back before the next one starts: no gradient crosses a border.
    on_segment(index, begin, end, logits, kl or None, inner values) sees every segment.
    skip_fill, skip_unscored (FastModel only): leave out the last layer's output where it is not read, that is in
    segments without targets and at positions without targets.
    Returns the loss, summed over segments, as a float."""
    states, loss = model.start(), 0.0
    scored = int((targets != IGNORE).sum())
    if scored == 0:
        raise ValueError("[forward_backward] no target is scored: nothing to learn from")
    for index, (begin, end) in enumerate(segments(tokens.shape[1], model.config.T)):
        columns = (targets[:, begin:end] != IGNORE).any(0).nonzero().flatten().tolist()
        has_targets, rows = len(columns) > 0, (0, end - begin)
        if has_targets and skip_unscored:
            rows = (columns[0], columns[-1] + 1)
        if not has_targets and skip_fill:
            rows = (0, 0)
        with torch.set_grad_enabled(has_targets):
            shortcuts = dict(rows=rows, loss=has_targets) if skip_fill or skip_unscored else {}
            offset = None if offsets is None else offsets[index]
            logits, states, kl, inside = model(tokens[:, begin:end].long(), states, offset, **shortcuts)
            if has_targets:
                read = targets[:, begin + rows[0]:begin + rows[1]]
                segment_loss = cross_entropy(logits, read, scored) + model.config.lambda_kl * kl
                segment_loss.backward()
                loss += float(segment_loss.detach())
        if on_segment:
            on_segment(index, begin, end, logits.detach(), kl.detach() if has_targets else None, inside)
    return loss


def clip(parameters, limit):
    """g *= min(1, limit / (|g| + 1e-6)), |g| over all parameters together; returns |g|."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    for g in gradients:
        g.mul_((limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


def adam(model, **options):
    return torch.optim.Adam(model.parameters(), lr=model.config.lr, betas=(0.9, 0.999), eps=1e-8, **options)
