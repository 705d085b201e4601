"""Mean losses and errors of logits that are stored by class, of examples sorted by label."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

Quantity = Literal["loss", "error"]


class Means:
    """Means of a quantity over examples in the order of their labels.

    The logits of the labels then lie in one run for each class, and are read off as slices.

    Parameters
    ----------
    labels
        Labels in ascending order, int64, shape [examples].
    quantity
        ``"loss"``: mean cross-entropy in nats; ``"error"``: fraction of examples.
    """

    def __init__(self, labels: Tensor, classes: int, dtype: torch.dtype, quantity: Quantity) -> None:
        self._labels, self._quantity = labels, quantity
        present, counts = (part.tolist() for part in labels.unique_consecutive(return_counts=True))
        self._lengths: list[int] = []  # of what lies between the logits of labels, and of these, in turns
        first, done = 0, 0
        for label, count in zip(present, counts, strict=True):
            self._lengths += [label * len(labels) + first - done, count]
            first += count
            done = label * len(labels) + first
        self._lengths.append(classes * len(labels) - done)
        examples = torch.arange(len(labels), device=labels.device)
        # Added to logits it leaves those of labels below all others. Not infinite: that of infinite logits is NaN.
        self._hide = torch.zeros(classes, len(labels), dtype=dtype, device=labels.device)
        self._hide[labels, examples] = torch.finfo(dtype).min

    def __call__(self, logits: Tensor) -> np.ndarray:
        """Means under logits [..., classes, examples], float64, shape [...]."""
        own = torch.cat(logits.flatten(-2).split(self._lengths, -1)[1::2], -1)
        if self._quantity == "loss":
            found = (logits.logsumexp(-2) - own).sum(-1, dtype=torch.float64)
        else:
            others = (logits + self._hide).amax(-2)
            right = own > others  # not if one of them is NaN
            if (own == others).any():  # of equal logits the first counts, as everywhere
                right = (logits.argmax(-2) == self._labels) & ~logits.isnan().any(-2)
            found = len(self._labels) - right.sum(-1)
        return found.double().div(len(self._labels)).cpu().numpy()
