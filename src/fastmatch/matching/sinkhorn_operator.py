"""Sinkhorn's operator: from any scores to a doubly stochastic matrix, with the gradient of its fixed point."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

ROUNDS = 200
TOLERANCE = 1e-4  # By which rows may miss a sum of one; columns have it exactly.
_RIDGE = 1e-9  # On the linear system: at a permutation, prices are free.


class _Sinkhorn(torch.autograd.Function):
    """``P = exp((S + f 1' + 1 g') / tau)`` with f and g such that all rows and columns sum to one."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, prices: Tensor, tau: float, rounds: int, tolerance: float) -> Any:
        scaled = scores / tau
        columns = prices.clone()
        for _ in range(rounds):
            rows = -torch.logsumexp(scaled + columns, 1)
            columns = -torch.logsumexp(scaled + rows[:, None], 0)
            soft = torch.exp(scaled + rows[:, None] + columns)
            if float((soft.sum(1) - 1).abs().max()) <= tolerance:
                break
        ctx.save_for_backward(soft)
        ctx.tau = tau
        ctx.mark_non_differentiable(columns)
        return soft, columns

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Any:
        """Differentiate the conditions on rows and columns; columns are left by the Schur complement of the rows."""
        soft, wide = ctx.saved_tensors[0].double(), gradient.double()
        flow = soft * wide
        rows, columns = flow.sum(1), flow.sum(0)
        size = len(soft)
        # A constant can go from f to g: the mean of the prices of columns is set to zero by the last term.
        system = torch.eye(size, dtype=soft.dtype, device=soft.device) * (1 + _RIDGE) - soft.T @ soft + 1 / size
        v = torch.linalg.solve(system, columns - soft.T @ rows)
        u = rows - soft @ v
        return ((flow - soft * (u[:, None] + v)) / ctx.tau).to(gradient.dtype), None, None, None, None


def sinkhorn(
    scores: Tensor,
    prices: Tensor | None = None,
    *,
    tau: float = 1.0,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> tuple[Tensor, Tensor]:
    """The doubly stochastic matrix nearest to ``scores / tau`` in relative entropy, differentiable by the scores.

    Iterations are in the log domain; the gradient is that of the limit, from one linear system of the size of the
    matrix in float64, whatever number of iterations led there.

    Parameters
    ----------
    scores
        Shape [n, n].
    prices
        Of the columns, shape [n], from an earlier call: scores that changed little then take few iterations.

    Returns
    -------
    tuple
        The matrix, and the prices of its columns.

    References
    ----------
    Sinkhorn 1964; Pena et al. 2023 (arXiv 2212.12042), section 3.2; Eisenberger et al. 2022 (arXiv 2205.06688),
    theorem 3.
    """
    start = scores.new_zeros(len(scores)) if prices is None else prices
    found: tuple[Tensor, Tensor] = _Sinkhorn.apply(scores, start, tau, rounds, tolerance)
    return found


def starting_score(size: int, share: float) -> float:
    """Score of the chosen entry of every row, others being zero, that gives it this share of the row at ``tau`` 1."""
    return math.log(share / (1 - share) * max(1, size - 1))
