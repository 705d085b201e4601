"""What scoring returns."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Scores(NamedTuple):
    """Sums over examples, and the values of each if they were asked for.

    Attributes
    ----------
    loss, wrong
        Shape [...]: sum of the cross-entropies (float64, nats) and number of errors (int64).
    losses, errors
        Shape [..., examples], float64 and bool; None unless asked for.
    """

    loss: Tensor
    wrong: Tensor
    losses: Tensor | None
    errors: Tensor | None
