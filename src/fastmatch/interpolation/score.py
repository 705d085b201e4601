"""Losses and errors of one network on some examples, exactly or by a quick form of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmatch import kernels
from fastmatch.data import batch_count

Places = slice | Tensor
Logits = Callable[[Places], Tensor]  # Of the examples at some places.
_SAMPLE = 64  # Examples that tell at first how far the quick form is off.
_SAFETY = 2.0  # How much further than on those that ran exactly it may be off elsewhere.
_NOISE = 2e-4  # Standard error allowed in the mean loss, absolute up to a loss of 1, relative above.


class Scores(NamedTuple):
    """Cross-entropy in nats (float64) and 0-1 error (bool), shape [examples] each."""

    losses: Tensor
    errors: Tensor


def score(logits: Logits, labels: Tensor, places: slice, batch: int) -> Scores:
    """Scores of the examples at ``places``."""
    return _joined(scores_of(logits(some), labels[some]) for some in _slices(places, batch))


def score_quickly(exact: Logits, quick: Logits, labels: Tensor, places: slice, batch: int) -> Scores:
    """Scores by ``quick``, with errors as they are by ``exact`` and losses close to it.

    Both run on a random sample. A class can change only where the two largest logits lie closer together than the forms
    are apart: examples that are closer than twice the largest distance seen, relative to the logits, run again exactly,
    and more of them if one of these is further off than the sample was. The mean difference of the losses on the sample
    is added to those that did not run again, since rounded weights shift all by about the same; the sample grows until
    its mean is known to 2e-4.
    """
    margins = []

    def watched(some: Places) -> Tensor:
        output = quick(some)
        margins.append(_margins(output))
        return output

    losses, errors = score(watched, labels, places, batch)
    margin, rough, again = torch.cat(margins), losses.clone(), torch.zeros_like(errors)
    off = torch.zeros((), device=losses.device)
    order = torch.randperm(len(losses), generator=torch.Generator().manual_seed(0)).to(losses.device)
    sample = chosen = order[:_SAMPLE]
    while len(chosen):
        again[chosen] = True
        for some in chosen.tensor_split(batch_count(len(chosen), batch)):
            there = some + places.start
            output = exact(there)
            losses[some], errors[some] = scores_of(output, labels[there])
            off = torch.maximum(off, _distance(quick(there), output))
        sample = order[: max(len(sample), _enough((losses - rough)[sample], losses))]
        wanted = ~(margin > _SAFETY * off)
        wanted[sample] = True
        chosen = torch.nonzero(wanted & ~again)[:, 0]
    losses[~again] += (losses - rough)[sample].mean()
    return Scores(losses, errors)


def _enough(differences: Tensor, losses: Tensor) -> int:
    """Size of a sample without replacement whose mean difference has the standard error that is allowed."""
    size = differences.var(correction=0) / (_NOISE * losses.mean().clamp_min(1.0)).square()
    return math.ceil(float((size / (1 + size / len(losses))).nan_to_num()))


def _slices(places: slice, size: int) -> Iterator[slice]:
    """Cut places as evenly as :meth:`Split.batches` does."""
    edges = np.linspace(places.start, places.stop, batch_count(places.stop - places.start, size) + 1).astype(int)
    return (slice(start, stop) for start, stop in pairwise(edges.tolist()))


def _joined(parts: Iterable[Scores]) -> Scores:
    return Scores(*(torch.cat(values) for values in zip(*parts, strict=True)))


def scores_of(logits: Tensor, labels: Tensor) -> Scores:
    """Scores of logits, shape [examples, classes]."""
    found = kernels.scores(logits, labels, per_example=True)
    assert found.losses is not None
    assert found.errors is not None
    return Scores(found.losses, found.errors)


def _margins(logits: Tensor) -> Tensor:
    """How far the largest logit is from the next, relative to the largest in size; NaN where there is no other."""
    if logits.shape[-1] == 1:
        return torch.full_like(logits[:, 0], torch.nan)
    first, second = logits.float().topk(2, -1).values.unbind(-1)
    return (first - second) / logits.abs().amax(-1)


def _distance(quick: Tensor, exact: Tensor) -> Tensor:
    """Largest change of the difference of two logits of an example, relative to its largest logit in size."""
    change = (quick - exact).float()
    return ((change.amax(-1) - change.amin(-1)) / exact.abs().amax(-1)).max()
