"""Networks stitched together: the first layers of one, the rest of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from fastmatch.analysis.layers import Layered
from fastmatch.interpolation import Evaluator

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Stitch:
    """Loss (nats) and error (fraction) of the layers of a up to ``after`` and the rest of b, with standard errors.

    ``after`` is None where nothing is of a: that is b alone. Behind the last layer it is a alone.
    """

    after: str | None
    loss: float
    loss_se: float
    error: float
    error_se: float


def cuts(layered: Layered) -> Iterator[tuple[str | None, frozenset[str]]]:
    """Where networks can be stitched, with the entries of the state dict that come from the first.

    A network can be cut behind a layer whose features are all that the rest of the network reads: behind every layer
    of a plain network, and behind the blocks of a residual one. Pre-norm blocks are not cut: the features of their last
    layer are the normalisation of the next block, beside which the stream runs on.
    """
    yield None, frozenset()
    seen: set[frozenset[str]] = set()
    for layer in layered.layers:
        if layer.cut is not None and layer.cut not in seen:
            seen.add(layer.cut)
            yield layer.name, layer.cut


def stitched(a: State, b: State, of_a: frozenset[str]) -> dict[str, Tensor]:
    """State dict with some entries of a and the others of b."""
    return {name: (a if name in of_a else b)[name] for name in b}


def measure_stitch(evaluator: Evaluator, split: str, network: State, after: str | None) -> Stitch:
    """Figures of a stitched network."""
    found = evaluator.evaluate([network], np.ones((1, 1)))[split]
    values = (float(getattr(found, name)[0]) for name in ("loss", "loss_se", "error", "error_se"))
    return Stitch(after, *values)
