"""Combinations of a few networks, loaded and scored one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fastmatch.data import Split
from fastmatch.errors import DataError
from fastmatch.interpolation.lowered import State
from fastmatch.interpolation.score import Places, Scores, score, score_quickly, scores_of
from fastmatch.interpolation.shared import FirstLayers
from fastmatch.interpolation.stack import Stack
from fastmatch.interpolation.strategies import Runner


class Setup(NamedTuple):
    """How the networks of an architecture are run.

    ``largest`` is the largest label of each split, ``reset`` names the running statistics that every combination takes
    anew from ``statistics``, which are the examples of the split ``settled`` if there is one.
    """

    splits: Mapping[str, Split]
    largest: Mapping[str, int]
    runner: Runner
    batch: int
    first: FirstLayers | None
    reset: Sequence[str]
    statistics: Split
    settled: str | None


class Combinations:
    """Combinations of ``networks``, of which one is loaded at a time.

    With ``again``, what resetting statistics gave is kept for rows that are loaded again. ``state`` is the network
    that is loaded.
    """

    def __init__(self, setup: Setup, networks: Sequence[State], again: bool) -> None:
        self.chosen, self.precision = setup.runner.chosen, setup.runner.precision
        self._setup = setup
        if (repair := setup.runner.repair) is not None:
            networks = [repair.extended(network, self._settle) for network in networks]
        self._stack = Stack(networks)
        self._first = None if setup.first is None else setup.first.outputs(networks)
        self._row: tuple[float, ...] = ()
        self.state: State = {}
        self._settled: Scores | None = None
        self._again = again
        self._known: dict[tuple[float, ...], tuple[dict[str, Tensor], Scores | None]] = {}

    @property
    def plain_state(self) -> State:
        """State dict of the network that is loaded, with its repair, if there is one, in weights and biases."""
        repair = self._setup.runner.repair
        return self.state if repair is None else repair.folded(self.state)

    def load(self, row: np.ndarray) -> None:
        """Make ``sum_m row[m] * networks[m]``, with statistics of its own, the network that is scored."""
        wanted = tuple(row.tolist())
        if wanted == self._row:
            return
        self._setup.runner.unload()
        self._settled = None
        self._row, self.state = wanted, self._stack.combine(wanted)
        if self._setup.reset:
            self._reset(self.state)
        self._setup.runner.load(self.state)

    def _reset(self, state: State) -> None:
        """Give the loaded row its statistics, from memory if it was loaded before."""
        if self._row in self._known:
            statistics, self._settled = self._known[self._row]
            for name, tensor in statistics.items():
                state[name].copy_(tensor)
            return
        setup = self._setup
        logits = self._settle(state)
        if setup.settled is not None:
            labels = setup.statistics.labels
            self._settled = scores_of(checked_logits(logits, len(labels), setup.largest[setup.settled]), labels)
        if self._again:
            self._known[self._row] = {name: state[name].clone() for name in setup.reset}, self._settled

    def _settle(self, state: State) -> Any:
        """Give ``state`` its statistics; return what it makes of the examples that gave them."""
        return self._setup.runner.settle(state, self._setup.statistics.inputs, self._setup.batch)

    def score(self, split: str, places: slice, *, exact: bool = False) -> Scores:
        """Losses and errors of the network that is loaded, in the setup's precision unless ``exact``."""
        if split == self._setup.settled and self._settled is not None:
            return Scores(*(values[places] for values in self._settled))
        runner, labels = self._setup.runner, self._setup.splits[split].labels
        if exact or self.precision == "highest":
            return score(lambda some: self._logits(runner.exact, split, some), labels, places, self._setup.batch)
        return score_quickly(
            lambda some: self._logits(runner.exact, split, some),
            lambda some: self._logits(runner.quick, split, some),
            labels,
            places,
            self._setup.batch,
        )

    def _logits(self, run: Any, split: str, places: Places) -> Tensor:
        inputs = self._setup.splits[split].inputs[places]
        first = None
        if self._first is not None:
            first = _combined([outputs[split][places] for outputs in self._first], self._row)
        return checked_logits(run(inputs, first), len(inputs), self._setup.largest[split])


def _combined(outputs: Sequence[Tensor], row: Sequence[float]) -> Tensor:
    """Combination of outputs; a coefficient of 0 leaves its network out."""
    terms = [(coefficient, output) for coefficient, output in zip(row, outputs, strict=True) if coefficient]
    if not terms:
        return torch.zeros_like(outputs[0])
    (coefficient, output), *others = terms
    total = output * coefficient
    for coefficient, output in others:
        total.add_(output, alpha=coefficient)
    return total


def checked_logits(logits: Any, examples: int, largest_label: int) -> Tensor:
    """The logits; DataError unless they are some, with one for every label."""
    if not isinstance(logits, Tensor):
        raise DataError(f"the network returns a {type(logits).__name__}; it must return logits [examples, classes]")
    if logits.dim() != 2 or len(logits) != examples or logits.shape[1] <= largest_label:
        raise DataError(
            f"the network returns shape {tuple(logits.shape)} for {examples} examples with labels up to "
            f"{largest_label}; it must return [examples, classes]"
        )
    return logits
