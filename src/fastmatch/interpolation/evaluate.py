"""Evaluate many linear combinations of networks on one data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor, nn

from fastmatch.data import Split
from fastmatch.interpolation.evaluation import Evaluation, Precision
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.interpolation.strategies import Strategy


def evaluate(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    coefficients: np.ndarray,
    data: Split,
    *,
    bn: BatchNormMode = "reset",
    statistics: Split | None = None,
    strategy: Strategy = "auto",
    precision: Precision = "highest",
    memory: float | None = None,
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
        Shape [rows, networks]. Rows that are the same, to twelve decimals, are evaluated once.
    data
        Examples to evaluate on.
    bn
        ``"reset"``: networks with BatchNorm get running statistics of their own in every row: mean and unbiased
        variance of all that reaches a normalisation on ``statistics``, once those before have theirs (interpolated ones
        collapse the variance: Jordan et al. 2023, REPAIR). ``"keep"``: statistics are interpolated like weights.
        ``"repair"``: reset, and the outputs of all convolutions and linear layers without a BatchNorm behind them, but
        those that give the logits, are rescaled in every row so that mean and standard deviation of each unit over
        ``statistics`` are the same combination of those that the networks have by themselves. A network alone keeps
        its losses (those of ``"reset"`` if it has BatchNorm).
    statistics
        Training examples for the statistics; ``data`` itself if None. Where more than 2 GiB of activations (or half of
        ``memory``) would wait for them, a fixed random subset is taken.
    strategy
        ``"functional"`` calls the module with the weights of each row; ``"lowered"`` exports it once and folds, fuses
        and shares what it can; ``"auto"`` lowers long evaluations on the CPU (:attr:`Evaluation.strategy` says why).
        Repair needs a lowered network, and ``"auto"`` always gives it one.
    precision
        ``"highest"`` is float32, or wider as given. ``"fast"`` runs lowered networks in bfloat16, and again in float32
        what that might change the class of: errors are those of float32, as far as a sample tells where they may
        differ, and losses within about 1e-3 of them. Where bfloat16 cannot run or gains nothing, the precision stays
        highest, and :attr:`Evaluation.precision` says so.
    memory
        Bytes to take at most beside networks, data and one combination of weights; a quarter of what is free if None.
    progress
        Called with (rows done, rows) after each row.

    Raises
    ------
    OptionError
        The coefficients do not fit the networks, an option is unknown, or the network cannot be lowered as asked.
    ModelError
        A network has other tensors or shapes than ``module``.
    DataError
        The network does not take the data, returns something else than logits, or has statistics to reset on a single
        example.
    """
    evaluator = Evaluator(
        module, {"data": data}, statistics or data, bn=bn, strategy=strategy, precision=precision, memory=memory
    )
    return evaluator.evaluate(networks, coefficients, progress=progress)["data"]
