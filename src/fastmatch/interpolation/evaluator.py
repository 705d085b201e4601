"""An evaluator: one architecture and its data, for combinations of any of its networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import nn

from fastmatch.data import Split
from fastmatch.errors import DataError, ModelError, OptionError
from fastmatch.interpolation.batchnorm import running_statistics
from fastmatch.interpolation.combinations import Combinations, Setup, checked_logits
from fastmatch.interpolation.evaluation import Evaluation, Precision
from fastmatch.interpolation.forward import forward
from fastmatch.interpolation.lowered import State
from fastmatch.interpolation.memory import FRACTION, free_memory, measure_work
from fastmatch.interpolation.score import Scores
from fastmatch.interpolation.shared import FirstLayers
from fastmatch.interpolation.stack import Stack
from fastmatch.interpolation.strategies import Strategy, choose_runner
from fastmatch.symmetry import eval_mode

BatchNormMode = Literal["reset", "keep", "repair"]
Progress = Callable[[int, int], None]


class Evaluator:
    """Evaluates combinations of networks of one architecture on the same data, as often as asked.

    What the calls have in common is done once: the network is exported, and outputs of linear first layers are kept.
    The first call decides how all of them are run.

    Parameters
    ----------
    module
        The architecture; its own weights are neither used nor changed. It runs in evaluation mode.
    splits
        Examples to evaluate on.
    statistics
        Training examples for the statistics of BatchNorm and repair.
    bn, strategy, precision, memory
        See :func:`fastmatch.evaluate`.
    rows
        Combinations of all calls together, by which the strategy is chosen; those of the first call if None.
    """

    def __init__(
        self,
        module: nn.Module,
        splits: Mapping[str, Split],
        statistics: Split,
        *,
        bn: BatchNormMode = "reset",
        strategy: Strategy = "auto",
        precision: Precision = "highest",
        memory: float | None = None,
        rows: int | None = None,
    ) -> None:
        if bn not in ("reset", "keep", "repair"):
            raise OptionError(f"bn {bn!r} is unknown; choose reset, keep or repair")
        if memory is not None and not 0 < memory < math.inf:
            raise OptionError(f"memory must be a positive number of bytes, received {memory}")
        self._module, self._splits, self._statistics = module, splits, statistics
        self._bn, self._strategy, self._precision, self._memory = bn, strategy, precision, memory
        self._largest = {name: _largest_label(split) for name, split in splits.items()}
        self._rows = rows
        self._setup: Setup | None = None

    def evaluate(
        self,
        networks: Sequence[State],
        coefficients: np.ndarray,
        *,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> dict[str, Evaluation]:
        """Figures on every split for ``sum_m coefficients[k, m] * networks[m]``, for every row k.

        Rows that are the same are evaluated once; with ``exact``, in precision highest.

        Raises
        ------
        OptionError, ModelError, DataError
            As :func:`fastmatch.evaluate`.
        """
        rows = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
        if rows.shape[1] != len(networks):
            raise OptionError(f"{rows.shape[1]} coefficients a row for {len(networks)} networks; give one for each")
        if not rows.size:
            raise OptionError(f"no coefficients: shape {rows.shape}; give a row for each combination")
        _, kept, places = np.unique(rows.round(12), axis=0, return_index=True, return_inverse=True)
        found: dict[str, list[Scores]] = {name: [] for name in self._splits}
        with self.combinations(networks, len(kept)) as combinations:
            for number, row in enumerate(rows[kept]):
                combinations.load(row)
                for name, split in self._splits.items():
                    found[name].append(combinations.score(name, slice(0, len(split)), exact=exact))
                if progress is not None:
                    progress(number + 1, len(kept))
            chosen, precision = combinations.chosen, "highest" if exact else combinations.precision
        arrays = {name: _arrays(scores, places.ravel()) for name, scores in found.items()}
        return {name: Evaluation(rows, *values, chosen, precision) for name, values in arrays.items()}

    def states(self, networks: Sequence[State], coefficients: np.ndarray) -> list[State]:
        """State dicts of ``sum_m coefficients[k, m] * networks[m]``, for every row k, as they are evaluated.

        They have memory of their own, in float32 or wider as given, and statistics of their own where those are reset.
        Repair is folded into weights and biases.

        Raises
        ------
        ModelError, DataError
            As :func:`fastmatch.evaluate`, and where a layer cannot hold its repair.
        """
        states = []
        with self.combinations(networks, len(coefficients)) as combinations:
            for row in coefficients:
                combinations.load(row)
                states.append(combinations.plain_state)
        return states

    @contextmanager
    def combinations(self, networks: Sequence[State], rows: int, *, again: bool = False) -> Iterator[Combinations]:
        """Networks made ready for about ``rows`` combinations of them, loaded more than once each if ``again``."""
        check_networks(self._module, networks)
        with torch.no_grad(), eval_mode(self._module):
            if self._setup is None:
                self._setup = self._prepare(Stack([_whole(networks)]).combine([1.0]), self._rows or rows)
            try:
                yield Combinations(self._setup, networks, again)
            finally:
                self._setup.runner.unload()

    def _prepare(self, state: State, rows: int) -> Setup:
        splits = self._splits
        split = next(iter(splits.values()))
        memory = free_memory(split.inputs.device) / FRACTION if self._memory is None else self._memory
        pair = split.inputs[:2]
        work = measure_work(lambda: forward(self._module, state, pair), len(pair))
        operations = float(work.operations) * rows * sum(map(len, splits.values()))
        reset, statistics = [], self._statistics.take(work.settled(math.inf if self._memory is None else memory / 2))
        if self._bn != "keep":
            reset = running_statistics(self._module, state, statistics.inputs[:2])
        some = split.inputs[torch.arange(5) % len(split)]  # five even of fewer: a graph for one batch size is told so
        options, corrected = (self._strategy, self._precision), self._bn == "repair"
        runner = choose_runner(self._module, state, some, operations, *options, corrected=corrected)
        first = None
        if runner.lowered is not None:
            first = FirstLayers(runner.lowered, {name: split.inputs for name, split in splits.items()}, memory / 2)
        if runner.repair is not None:
            reset += runner.repair.statistics
        if reset and len(statistics) < 2:
            raise DataError("BatchNorm statistics need at least two examples; give more, or keep them (bn keep)")
        settled = next((name for name, split in splits.items() if split is statistics), None)
        if len(set(reset)) < len(reset):
            settled = None  # what ran before a normalisation settled again was not normalised as it is in the end
        return Setup(
            splits,
            self._largest,
            runner,
            work.batch(memory / 2, split.inputs.device.type),
            first,
            reset,
            statistics,
            settled,
        )


def _arrays(scores: Sequence[Scores], places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Losses and errors of all rows; ``places`` says which scores each row has."""
    losses, errors = (np.stack([values.cpu().numpy() for values in kind]) for kind in zip(*scores, strict=True))
    return losses[places], errors[places]


def _largest_label(split: Split) -> int:
    """Read once for a split: a GPU would be waited for in every batch."""
    if not len(split):
        raise DataError("there are no examples to evaluate on; give at least one")
    smallest, largest = torch.stack(torch.aminmax(split.labels)).tolist()
    if smallest < 0:
        raise DataError(f"labels must be class indices from 0, found {smallest}")
    return largest


@torch.no_grad()
def check_labels(module: nn.Module, state: State, split: Split) -> None:
    """Raise DataError unless the network, with weights ``state``, has a logit for every label of a split."""
    some = split.inputs[:2]
    with eval_mode(module):
        checked_logits(forward(module, state, some), len(some), _largest_label(split))


def _whole(networks: Sequence[State]) -> State:
    """A network to try things on, the first without NaN and infinities: nothing shows on one that has them."""
    finite = (n for n in networks if all(t.isfinite().all() for t in n.values() if t.is_floating_point()))
    return next(finite, networks[0])


def check_networks(module: nn.Module, networks: Sequence[State]) -> None:
    """Raise ModelError unless all networks have the tensors of ``module``, in their shapes."""
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for number, network in enumerate(networks):
        found = {name: tensor.shape for name, tensor in network.items()}
        if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
            raise ModelError(
                f"network {number} does not fit the module: {differing[0]!r} is missing, unknown or of another shape; "
                "give state dicts of this architecture and width"
            )
