"""Evaluate many linear combinations of networks on one data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch import kernels
from fastmatch.data import Split
from fastmatch.errors import DataError, ModelError, OptionError
from fastmatch.interpolation.batchnorm import has_batch_norm, reset_statistics
from fastmatch.interpolation.stack import Stack
from fastmatch.interpolation.strategies import Chosen, Strategy, choose_runner
from fastmatch.symmetry import eval_mode

# Convolutions run fastest while the activations of a batch stay in cache, plain matrix products in large batches.
CONVOLUTION_BATCH, MATRIX_BATCH = 250, 1000
BatchNormMode = Literal["reset", "keep"]


@dataclass(frozen=True)
class Evaluation:
    """Figures of one data set, an entry for each row of coefficients.

    Attributes
    ----------
    coefficients
        Shape [rows, networks], float64.
    losses, errors
        Per example, shapes [rows, examples]: cross-entropy in nats (float64) and 0-1 error (bool).
    strategy
        How the networks were run, and why.
    """

    coefficients: np.ndarray
    losses: np.ndarray
    errors: np.ndarray
    strategy: Chosen = Chosen("functional", "it was asked for")  # noqa: RUF009

    def at(self, rows: Sequence[int] | np.ndarray) -> Evaluation:
        """The figures of some rows, in the order given."""
        return replace(self, coefficients=self.coefficients[rows], losses=self.losses[rows], errors=self.errors[rows])

    @property
    def examples(self) -> int:
        """Number of examples."""
        return int(self.losses.shape[1])

    @property
    def loss(self) -> np.ndarray:
        """Mean cross-entropy in nats, float64, shape [rows]."""
        return self.losses.mean(1)

    @property
    def error(self) -> np.ndarray:
        """Fraction of examples classified wrongly, float64, shape [rows]."""
        return self.errors.mean(1)

    @property
    def loss_se(self) -> np.ndarray:
        """Standard error of :attr:`loss` over examples."""
        return standard_error(self.losses)

    @property
    def error_se(self) -> np.ndarray:
        """Standard error of :attr:`error` over examples."""
        return standard_error(self.errors.astype(np.float64))


def standard_error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis; NaN for a single example."""
    count = values.shape[-1]
    return values.std(-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[:-1], np.nan)


def evaluate(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    coefficients: np.ndarray,
    data: Split,
    *,
    bn: BatchNormMode = "reset",
    statistics: Split | None = None,
    strategy: Strategy = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Loss and error of ``sum_m coefficients[k, m] * networks[m]`` for every row k.

    Weights are combined in float32 (or wider, as given); losses accumulate in float64.

    Parameters
    ----------
    module
        The architecture; its own weights are neither used nor changed. It runs in evaluation mode.
    networks
        State dicts.
    coefficients
        Shape [rows, networks].
    data
        Examples to evaluate on.
    bn
        ``"reset"``: networks with BatchNorm get running statistics of their own in every row, the cumulative average
        over one pass over ``statistics`` (interpolated statistics collapse the variance: Jordan et al. 2023, REPAIR);
        ``"keep"``: statistics are interpolated like weights.
    statistics
        Training examples for the statistics; ``data`` itself if None.
    strategy
        ``"functional"`` calls the module with the weights of each row; ``"lowered"`` exports it once and folds, fuses
        and shares what it can; ``"auto"`` lowers long evaluations on the CPU (:attr:`Evaluation.strategy` says why).
    progress
        Called with (rows done, rows) after each row.

    Raises
    ------
    OptionError
        The coefficients do not fit the networks, ``bn`` or ``strategy`` is unknown, or the network cannot be lowered.
    ModelError
        A network has other tensors or shapes than ``module``.
    DataError
        The network does not take the data, returns something else than logits, or has BatchNorm to reset on a single
        example.
    """
    splits = {"data": data}
    return evaluate_splits(
        module,
        networks,
        coefficients,
        splits,
        bn=bn,
        statistics=statistics or data,
        strategy=strategy,
        progress=progress,
    )["data"]


def evaluate_splits(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    coefficients: np.ndarray,
    splits: Mapping[str, Split],
    *,
    bn: BatchNormMode,
    statistics: Split,
    strategy: Strategy = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Evaluation]:
    """:func:`evaluate` on several splits, with each row's weights and statistics made once."""
    rows = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    if rows.shape[1] != len(networks):
        raise OptionError(f"{rows.shape[1]} coefficients a row for {len(networks)} networks; give one for each")
    if bn not in ("reset", "keep"):
        raise OptionError(f"bn {bn!r} is unknown; choose reset or keep")
    _check_networks(module, networks)
    largest = {name: _largest_label(split) for name, split in splits.items()}
    results: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {name: [] for name in splits}
    with torch.no_grad(), eval_mode(module):
        stack = Stack(networks)
        reset = bn == "reset" and has_batch_norm(module, stack.combine(rows[0]), statistics)
        shuffled = statistics.shuffle(seed=0) if reset else statistics
        runner = choose_runner(module, networks, len(rows), list(splits.values()), strategy)
        shared = {name: runner.share(split) for name, split in splits.items()}
        for number, row in enumerate(rows):
            state = stack.combine(row)
            if reset:
                reset_statistics(module, state, shuffled)
            for name, split in splits.items():
                run = runner.run(state, row.tolist(), shared[name])
                results[name].append(_score(run, split, batch_size(state), largest[name]))
            if progress is not None:
                progress(number + 1, len(rows))
    return {
        name: Evaluation(
            rows,
            np.stack([losses for losses, _ in scored]),
            np.stack([errors for _, errors in scored]),
            runner.chosen,
        )
        for name, scored in results.items()
    }


def _score(
    run: Callable[[Tensor, slice], Any], split: Split, size: int, largest_label: int
) -> tuple[np.ndarray, np.ndarray]:
    losses, errors = [], []
    start = 0
    for inputs, labels in split.batches(size):
        logits = _checked(run(inputs, slice(start, start + len(inputs))), len(inputs), largest_label)
        scores = kernels.scores(logits, labels, per_example=True)
        assert scores.losses is not None
        assert scores.errors is not None
        losses.append(scores.losses)
        errors.append(scores.errors)
        start += len(inputs)
    return torch.cat(losses).cpu().numpy(), torch.cat(errors).cpu().numpy()


def batch_size(state: Mapping[str, Tensor]) -> int:
    """Examples to run at once."""
    return CONVOLUTION_BATCH if any(tensor.dim() > 2 for tensor in state.values()) else MATRIX_BATCH


def _checked(logits: Any, examples: int, largest_label: int) -> Tensor:
    if not isinstance(logits, Tensor):
        raise DataError(f"the network returns a {type(logits).__name__}; it must return logits [examples, classes]")
    if logits.dim() != 2 or len(logits) != examples or logits.shape[1] <= largest_label:
        raise DataError(
            f"the network returns shape {tuple(logits.shape)} for {examples} examples with labels up to "
            f"{largest_label}; it must return [examples, classes]"
        )
    return logits


def _largest_label(split: Split) -> int:
    """Read once for a split: a GPU would be waited for in every batch."""
    smallest, largest = torch.stack(torch.aminmax(split.labels)).tolist()
    if smallest < 0:
        raise DataError(f"labels must be class indices from 0, found {smallest}")
    return largest


def _check_networks(module: nn.Module, networks: Sequence[Mapping[str, Tensor]]) -> None:
    wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for number, network in enumerate(networks):
        found = {name: tensor.shape for name, tensor in network.items()}
        if differing := sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name)):
            raise ModelError(
                f"network {number} does not fit the module: {differing[0]!r} is missing, unknown or of another shape; "
                "give state dicts of this architecture and width"
            )
