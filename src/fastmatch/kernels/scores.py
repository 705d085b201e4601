"""Scores: cross-entropy and error of each example."""

from __future__ import annotations

import torch
from torch import Tensor


def scores(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy (nats) and 0-1 error of each example.

    Parameters
    ----------
    logits
        Shape [examples, classes], any floating type; widened to float64, so that a confident network's loss keeps its
        digits.
    labels
        Shape [examples], int64.

    Returns
    -------
    losses, errors
        Shape [examples], float64 and bool. Ties between logits go to the smaller class.
    """
    wide = logits.double()
    target = wide.gather(1, labels[:, None])[:, 0]
    losses = torch.logsumexp(wide, 1) - target
    return losses, wide.argmax(1) != labels
