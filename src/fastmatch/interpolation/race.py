"""The largest deviation of a curve from the line between its ends, without every row on every example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fastmatch.errors import OptionError
from fastmatch.interpolation.evaluation import standard_error

_STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Maximum:
    """Where a curve rises highest above the straight line between its ends, and what it took to find it.

    Attributes
    ----------
    alpha
        Where it is attained.
    height, height_se
        The deviation over all examples, and its standard error, as ``linear`` and ``linear_se`` of ``BarrierHeight``.
    evaluated, total
        Examples evaluated, summed over rows, and those of the whole curve.
    seen
        Examples evaluated in each row, int64, shape [rows].
    """

    alpha: float
    height: float
    height_se: float
    evaluated: int
    total: int
    seen: np.ndarray


def race(losses: Callable[[int, slice], np.ndarray], alphas: np.ndarray, examples: int, *, first: int = 256) -> Maximum:
    """Largest ``mean loss(alpha) - ((1 - alpha) loss(0) + alpha loss(1))`` over the rows ``alphas``, never below 0.

    Rows race on a growing random sample: all see the first examples, and those that may exceed the leader see twice as
    many, until none is left that may. A row that fell behind is compared with later leaders too and may return.

    The bounds rest on a normal approximation. A maximum that comes from fewer than one in ``first / 7`` examples can be
    missed if these do not stand out in any row between the ends that is evaluated on all of them; the highest one is.
    The chance that another row lies higher is that of a normal variable exceeding three standard deviations, 0.13 %.
    A loss that is not finite makes the height so, as in the whole curve, unless it is never evaluated.

    Parameters
    ----------
    losses
        Given a row and places, per-example losses of that row, float64, shape [places]. Places are those of one random
        order of the examples; a row is asked for each of them at most once, from the first on.
    alphas
        From 0 to 1, shape [rows].
    examples
        Number of examples.
    first
        Examples that every row sees.

    Raises
    ------
    OptionError
        ``first`` is below 2.

    References
    ----------
    Maron and Moore, "Hoeffding Races", NIPS 1993.
    """
    if first < 2:
        raise OptionError(f"first is {first}; give at least 2, the fewest examples that show how far they differ")
    rows = _Rows(losses, alphas, examples)
    for row in rows.inner:
        rows.extend(row, first)
    while going := rows.contenders():
        for row in going:
            rows.extend(row, 2 * int(rows.seen[row]))
    eligible = (rows.seen == examples) | ~np.isfinite(rows.means)
    best = int(np.where(eligible, rows.means, -np.inf).argmax())
    finite = np.isfinite(rows.means[best])
    return Maximum(
        alpha=float(alphas[best]),
        height=float(rows.means[best]),
        height_se=float(standard_error(rows.deviations[best])) if finite else np.nan,
        evaluated=int(rows.seen.sum()),
        total=rows.deviations.size,
        seen=rows.seen,
    )


class _Rows:
    """Deviations of all rows above the line between the ends, as far as each was seen."""

    def __init__(self, losses: Callable[[int, slice], np.ndarray], alphas: np.ndarray, examples: int) -> None:
        self.deviations = np.full((len(alphas), examples), np.nan)
        self.means = np.zeros(len(alphas))
        self.seen = np.zeros(len(alphas), dtype=np.int64)
        self.inner = range(1, len(alphas) - 1)
        self._losses, self._alphas = losses, alphas
        # Any row may be the one that is wrongly left behind: they share the chance of three standard errors.
        self._z = -NormalDist().inv_cdf(NormalDist().cdf(-_STANDARD_ERRORS) / max(1, len(self.inner)))
        ends = (0, len(alphas) - 1)
        self._ends = [losses(row, slice(0, examples)) for row in ends]
        for row, end in zip(ends, self._ends, strict=True):
            self._add(row, end)

    def extend(self, row: int, count: int) -> None:
        """Evaluate a row on its next examples until it has seen ``count`` of them, or all."""
        places = slice(int(self.seen[row]), min(count, self.deviations.shape[1]))
        self._add(row, self._losses(row, places))

    def _add(self, row: int, losses: np.ndarray) -> None:
        alpha, start, stop = self._alphas[row], self.seen[row], self.seen[row] + len(losses)
        with np.errstate(invalid="ignore"):  # losses may be infinite
            line = (1 - alpha) * self._ends[0][start:stop] + alpha * self._ends[1][start:stop]
            self.deviations[row, start:stop] = losses - line
            self.means[row] = self.deviations[row, :stop].mean()
        self.seen[row] = stop

    def contenders(self) -> list[int]:
        """Rows to evaluate further: the highest between the ends, and those not shown to lie below what leads."""
        if not self.inner or not np.isfinite(self.means).all():  # no later loss makes a mean finite again
            return []
        ahead = [row for row in self.inner if self.seen[row] == self.seen[1:-1].max()]
        highest = max(ahead, key=self.means.__getitem__)
        upper = self._upper_bounds(highest if self.means[highest] > 0 else 0)
        # The highest goes on even below the ends: only rows evaluated on all examples show what a sample lacks.
        return [row for row in self.inner if self._partial(row) and (row == highest or not upper[row] < 0)]

    def _partial(self, row: int) -> bool:
        return bool(self.seen[row] < self.deviations.shape[1])

    def _upper_bounds(self, leader: int) -> np.ndarray:
        """How far the mean of each row may lie above that of ``leader``, shape [rows]; only partial rows have one."""
        examples = self.deviations.shape[1]
        upper = np.full(len(self.seen), np.nan)
        for count in np.unique(self.seen[self.seen < examples]):
            rows = [row for row in self.inner if self.seen[row] >= count]
            differences = self.deviations[rows, :count] - self.deviations[leader, :count]
            # A row may differ by nearly the same on all of a few examples, and then by much on the next one: as much
            # as any row did so far.
            floor = np.abs(differences).max() / count
            errors = np.maximum(standard_error(differences), floor)
            errors *= self._missing_spread(count) * np.sqrt(1 - count / examples)  # drawn without replacement
            current = self.seen[rows] == count
            upper[np.array(rows)[current]] = (differences.mean(1) + self._z * errors)[current]
        return upper

    def _missing_spread(self, count: int) -> float:
        """Largest ratio, at least 1, of the spread over all examples to that over the first ``count``.

        It is known for rows seen in full. Losses have heavy tails, and the examples that make them are much the same in
        all rows: a sample that misses them shows too little spread in each.
        """
        full = self.deviations[[row for row in self.inner if not self._partial(row)]]
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios = full.std(1) / full[:, :count].std(1)
        return float(np.fmax.reduce(ratios, initial=1.0))
