"""Scores by torch."""

from __future__ import annotations

import torch
from torch import Tensor

from fastmatch.kernels.scores.result import Scores


def scores(logits: Tensor, labels: Tensor, per_example: bool) -> Scores:
    """See :func:`fastmatch.kernels.scores`."""
    wide = logits.double()
    target = wide.gather(-1, labels.expand(wide.shape[:-1])[..., None])[..., 0]
    losses = torch.logsumexp(wide, -1) - target
    errors = (wide.argmax(-1) != labels) | wide.isnan().any(-1)
    return Scores(losses.sum(-1), errors.sum(-1), losses if per_example else None, errors if per_example else None)
