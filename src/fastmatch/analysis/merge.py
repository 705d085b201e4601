"""Merging: several networks lined up and averaged into one, measured beside its parts and their ensemble."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.data import DataSet, Split
from fastmatch.errors import OptionError
from fastmatch.interpolation import BatchNormMode, Evaluator
from fastmatch.interpolation.evaluation import Evaluation
from fastmatch.interpolation.forward import forward
from fastmatch.matching import JointMatch, ManyMethod, Reference, match_many
from fastmatch.symmetry import PermutationSpec, eval_mode, trace

State = Mapping[str, Tensor]
_BATCH_SIZE = 500


class Figures(NamedTuple):
    """Mean cross-entropy in nats, and the fraction of examples classified wrongly."""

    loss: float
    error: float


@dataclass(frozen=True)
class Merge:
    """One network made of several.

    Attributes
    ----------
    state
        State dict of the merged network.
    match
        The permutations that lined its parts up.
    weights
        Of the parts, in the sum; they add up to 1.
    parts
        ``parts["train" | "test"][m]``: figures of network m by itself.
    mean
        Weighted means of the parts' figures.
    ensemble
        Of the weighted mean of the parts' probabilities (softmax).
    unaligned
        Of the weighted mean of the networks as they are.
    merged
        Of ``state``.
    """

    state: State
    match: JointMatch
    weights: tuple[float, ...]
    parts: Mapping[str, tuple[Figures, ...]]
    mean: Mapping[str, Figures]
    ensemble: Mapping[str, Figures]
    unaligned: Mapping[str, Figures]
    merged: Mapping[str, Figures]

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the weights of networks and permutations."""
        kinds = {name: getattr(self, name) for name in ("mean", "ensemble", "unaligned", "merged")}
        return {
            "weights": list(self.weights),
            "match": self.match.to_json(),
            "parts": {split: [found._asdict() for found in figures] for split, figures in self.parts.items()},
            **{name: {split: found[split]._asdict() for split in found} for name, found in kinds.items()},
        }


def merge(
    module: nn.Module,
    networks: Sequence[State],
    data: DataSet,
    *,
    weights: Sequence[float] | None = None,
    method: ManyMethod = "auto",
    reference: Reference = "universe",
    spec: PermutationSpec | None = None,
    bn: BatchNormMode = "reset",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Merge:
    """Line networks up, and average their weights.

    Identical networks, in any orders of units, give that network again, to the rounding of the mean.

    Parameters
    ----------
    module
        The architecture; its own weights play no part.
    networks
        State dicts, at least two.
    data
        Both splits are evaluated; matching, and statistics of BatchNorm, see the training split alone.
    weights
        One for each network, not negative; they are divided by their sum. Equal ones if None.
    method, reference, seed, progress
        See :func:`fastmatch.match_many`.
    spec
        The groups; traced if None.
    bn
        What becomes of the merged network's BatchNorm statistics, and of all that are measured beside it, as in
        :func:`fastmatch.evaluate`; ``"repair"`` is folded into weights and biases.

    Raises
    ------
    OptionError
        Fewer than two networks, weights that are not as many or not as above, or an unknown option.
    ModelError
        A layer cannot hold its repair.
    PermutationError, DataError, SymmetryError
        As :func:`fastmatch.match_many` and :func:`fastmatch.evaluate`.

    References
    ----------
    Ainsworth et al. 2023, appendix A.10; Crisostomi et al. 2024; Jordan et al. 2023 (REPAIR).
    """
    row = _normalised(weights, len(networks))
    spec = spec or trace(module, (data.train.inputs[:2],))
    match = match_many(
        spec,
        networks,
        module=module,
        data=data.train,
        method=method,
        reference=reference,
        seed=seed,
        progress=progress,
    )
    placed = [permutation.apply(network) for permutation, network in zip(match.permutations, networks, strict=True)]
    splits = {"train": data.train, "test": data.test}
    evaluator = Evaluator(module, splits, data.train, bn=bn)
    state = evaluator.states(placed, row[None])[0]
    alone = evaluator.evaluate(networks, np.vstack([np.eye(len(networks)), row]))
    merged = evaluator.evaluate(placed, row[None])
    parts = {name: tuple(_figures(found, m) for m in range(len(networks))) for name, found in alone.items()}
    settled: Sequence[State] = networks
    if bn != "keep":
        settled = Evaluator(module, splits, data.train, bn="reset").states(networks, np.eye(len(networks)))
    return Merge(
        state=state,
        match=match,
        weights=tuple(row.tolist()),
        parts=parts,
        mean={name: Figures(*(row @ np.array(figures)).tolist()) for name, figures in parts.items()},
        ensemble={name: ensemble(module, settled, split, row) for name, split in splits.items()},
        unaligned={name: _figures(found, len(networks)) for name, found in alone.items()},
        merged={name: _figures(found, 0) for name, found in merged.items()},
    )


def ensemble(
    module: nn.Module, networks: Sequence[State], data: Split, weights: Sequence[float] | np.ndarray
) -> Figures:
    """Figures of the weighted mean of the networks' probabilities (softmax), in evaluation mode.

    Parameters
    ----------
    networks
        State dicts of ``module``.
    weights
        One for each network; they add up to 1.

    Raises
    ------
    DataError
        The networks do not take the data.
    """
    loss, wrong = 0.0, 0
    with torch.no_grad(), eval_mode(module):
        for inputs, labels in data.batches(_BATCH_SIZE):
            logits = [forward(module, network, inputs) for network in networks]
            shares = [weight * part.double().softmax(1) for weight, part in zip(weights, logits, strict=True)]
            probabilities = torch.stack(shares).sum(0)
            own = probabilities.gather(1, labels[:, None]).clamp_min(torch.finfo(torch.float64).tiny)
            loss -= float(own.log().sum())
            wrong += int((probabilities.argmax(1) != labels).sum())
    return Figures(loss / len(data), wrong / len(data))


def _figures(found: Evaluation, row: int) -> Figures:
    return Figures(float(found.loss[row]), float(found.error[row]))


def _normalised(weights: Sequence[float] | None, networks: int) -> np.ndarray:
    if networks < 2:
        raise OptionError(f"received {'one network' if networks else 'no networks'}; give at least two to merge")
    if weights is None:
        return np.full(networks, 1 / networks)
    if len(weights) != networks:
        raise OptionError(f"{len(weights)} weights for {networks} networks; give one for each")
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise OptionError(f"weights must be numbers from 0 on, not all 0, received {', '.join(map(str, weights))}")
    shares = np.array(weights, dtype=np.float64) / max(weights)  # their sum could be infinite, or their quotients
    return shares / shares.sum()
