"""The largest of some errors, for every comparison here. NaN counts as infinity: no tolerance lets it pass.

    python difference.py        tests this file; needs no PyTorch
"""
import math


def largest(errors):
    """The largest of numbers that are not negative; Python's own max keeps or drops a NaN by where it stands."""
    return max((math.inf if math.isnan(e) else float(e) for e in errors), default=0.0)


def largest_difference(got, wanted):
    """Largest |got - wanted| of two tensors."""
    return largest([float((got - wanted).detach().abs().max())])                 # a tensor's max is NaN if any entry is


def relative_difference(got, wanted):
    """The same, relative to the largest entry that was wanted."""
    return largest([largest_difference(got, wanted) / max(float(wanted.detach().abs().max()), 1e-300)])


if __name__ == "__main__":
    for at in range(3):
        errors = [1.0, 5.0, 2.0]
        errors[at] = math.nan
        assert largest(errors) == math.inf, errors
    assert largest([1.0, 5.0, 2.0]) == 5 and largest([]) == 0
