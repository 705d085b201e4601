"""All matching methods on one pair of networks, on one footing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastmatch.data import DataSet
from fastmatch.errors import FastmatchError, OptionError
from fastmatch.interpolation import Barriers, barriers
from fastmatch.interpolation.evaluator import BatchNormMode
from fastmatch.matching import METHODS, Match, Pair, Stop, check_options, match
from fastmatch.matching.midpoint import lowest

UNALIGNED = "unaligned"


@dataclass(frozen=True)
class MethodComparison:
    """What matching methods found for one pair of networks.

    Attributes
    ----------
    matches
        By name of the method, in the order in which they ran.
    skipped
        Why other methods gave no result, by name.
    barriers
        Network 0 is a; network 1 is b as it is, network ``2 + k`` b as the k-th match permutes it.
    """

    matches: dict[str, Match]
    skipped: dict[str, str]
    barriers: Barriers

    @property
    def curves(self) -> dict[str, tuple[int, int]]:
        """The pair of networks of ``barriers`` that belongs to each name, the unaligned ones among them."""
        return {name: (0, 1 + place) for place, name in enumerate((UNALIGNED, *self.matches))}

    @property
    def best(self) -> str:
        """Name of the method with the lowest barrier of the training loss: what may be chosen without test examples."""
        heights = {
            name: self.barriers.heights[pair]["train"]["loss"].linear
            for name, pair in self.curves.items()
            if name != UNALIGNED
        }
        return lowest(heights)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "methods": {name: found.to_json() for name, found in self.matches.items()},
            "skipped": self.skipped,
            "best": self.best,
            "curves": {name: list(pair) for name, pair in self.curves.items()},
            "barriers": self.barriers.to_json(),
        }


def compare_methods(
    pair: Pair,
    data: DataSet,
    *,
    methods: Sequence[str] | None = None,
    budget: float = 300.0,
    seed: int = 0,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    progress: Callable[[str, int, int], None] | None = None,
) -> MethodComparison:
    """Match with every method, and measure the barriers that are left.

    Parameters
    ----------
    pair
        The networks; ``pair.data`` are the training examples that methods look at.
    data
        Examples that barriers are measured on, and statistics of BatchNorm taken from (the training split).
    methods
        Names from :data:`fastmatch.METHODS`, in the order to run in; all of them if None.
    budget
        Seconds of matching, about. Each method may take an even share of what is left to it and those behind it, and is
        stopped when it next reports progress; one that keeps a best permutation gives that, another is skipped. What a
        method takes beyond its share is not taken from the others.
    alphas, bn
        See :func:`fastmatch.barrier`.
    progress
        Called with (what runs, steps done, steps).

    Raises
    ------
    OptionError
        A method is unknown, the budget is not positive, or no method gave a result.
    DataError, ModelError
        As :func:`fastmatch.evaluate`.
    """
    names = list(METHODS) if methods is None else list(methods)
    for name in names:
        check_options(name)
    if not 0 < budget < math.inf:
        raise OptionError(f"the budget must be a positive number of seconds, received {budget}")
    matches: dict[str, Match] = {}
    skipped: dict[str, str] = {}
    for place, name in enumerate(names):
        share = budget / (len(names) - place)
        clock = _Clock(name, share, progress)
        try:
            matches[name] = match(pair, name, seed=seed, progress=clock)
        except Stop:
            skipped[name] = f"not done within {share:.0f} s; give a larger budget"
        except FastmatchError as error:
            skipped[name] = str(error)
        budget -= min(share, clock.seconds)
    if not matches:
        raise OptionError("no method gave a result: " + "; ".join(f"{name}: {why}" for name, why in skipped.items()))
    return MethodComparison(matches, skipped, _measure(pair, data, matches, alphas, bn, progress))


class _Clock:
    """Passes progress on, and stops a method whose time is up."""

    def __init__(self, name: str, share: float, progress: Callable[[str, int, int], None] | None) -> None:
        self._name, self._share, self._progress = name, share, progress
        self._began = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Since the method began."""
        return time.perf_counter() - self._began

    def __call__(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(self._name, done, total)
        if done < total and self.seconds > self._share:
            raise Stop


def _measure(
    pair: Pair,
    data: DataSet,
    matches: dict[str, Match],
    alphas: int,
    bn: BatchNormMode,
    progress: Callable[[str, int, int], None] | None,
) -> Barriers:
    _, module, a, b, _ = pair.seen
    found = {(0, 2 + place): match.permutation for place, match in enumerate(matches.values())}
    return barriers(
        module,
        [a, b, *(b for _ in found)],
        data,
        pairs=[(0, 1), *found],
        permutations=found,
        alphas=alphas,
        bn=bn,
        progress=None if progress is None else lambda done, total: progress("barriers", done, total),
    )
