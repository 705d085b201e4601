"""What an evaluation gives: losses and errors, and how sure they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

Precision = Literal["highest", "fast"]


class Chosen(NamedTuple):
    """The strategy that runs, and the reason in words."""

    name: Literal["functional", "lowered"]
    reason: str


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
    precision
        That of the figures: ``"fast"`` where they were computed so.
    """

    coefficients: np.ndarray
    losses: np.ndarray
    errors: np.ndarray
    strategy: Chosen = Chosen("functional", "it was asked for")  # noqa: RUF009
    precision: Precision = "highest"

    def at(self, rows: Sequence[int] | np.ndarray) -> Evaluation:
        """The figures of some rows, in the order given."""
        return replace(self, coefficients=self.coefficients[rows], losses=self.losses[rows], errors=self.errors[rows])

    def replaced(self, rows: np.ndarray, other: Evaluation) -> Evaluation:
        """The same with other figures in some rows."""
        losses, errors = self.losses.copy(), self.errors.copy()
        losses[rows], errors[rows] = other.losses, other.errors
        return replace(self, losses=losses, errors=errors)

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


def joined(parts: Sequence[Evaluation], coefficients: np.ndarray, order: np.ndarray) -> Evaluation:
    """Rows of several evaluations as one: row k is ``order[k]`` of them all, counted through."""
    return replace(
        parts[-1],
        coefficients=coefficients,
        losses=np.concatenate([part.losses for part in parts])[order],
        errors=np.concatenate([part.errors for part in parts])[order],
    )


def standard_error(values: np.ndarray) -> np.ndarray:
    """Standard error of the mean over the last axis; NaN for a single example."""
    count = values.shape[-1]
    return values.std(-1, ddof=1) / np.sqrt(count) if count > 1 else np.full(values.shape[:-1], np.nan)
