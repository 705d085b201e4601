"""Barriers of many pairs of networks: all of a population, one against many, any list."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import Any, Literal

import numpy as np
from torch import Tensor, nn

from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation.barrier import Curve, Shape, alpha_grid, sharpen
from fastmatch.interpolation.evaluation import Evaluation, Precision, joined
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.interpolation.line import Heights, Line, Means
from fastmatch.permutation import Permutation

Pair = tuple[int, int]
Definition = Literal["linear", "mean", "max", "linear_se", "mean_se", "max_se"]


@dataclass(frozen=True)
class Barriers:
    """Barriers of pairs of networks.

    Attributes
    ----------
    alphas
        Points of every curve.
    networks
        Number of networks.
    heights
        For each pair of network numbers, ``heights[i, j]["train" | "test"]["loss" | "error"]``.
    means
        The curves themselves, means over examples: ``means[i, j]["train" | "test"]["loss" | "error"]``, float64, shape
        [alphas], alpha counted from network i.
    precision
        That of the curves; heights of the loss are read off figures of the highest.
    """

    alphas: np.ndarray
    networks: int
    heights: Mapping[Pair, Heights]
    means: Mapping[Pair, Means]
    precision: Precision

    def matrix(
        self,
        *,
        split: Literal["train", "test"] = "test",
        quantity: Literal["loss", "error"] = "loss",
        definition: Definition = "linear",
    ) -> np.ndarray:
        """Barriers of all pairs, or their standard errors (``"max_se"``), float64, shape [networks, networks].

        The diagonal is 0, a pair left out NaN.

        A barrier is the same from both ends, so a pair stands for its reverse unless that was measured too.
        """
        matrix = np.full((self.networks, self.networks), np.nan)
        np.fill_diagonal(matrix, 0.0)
        for (i, j), splits in self.heights.items():
            matrix[i, j] = getattr(splits[split][quantity], definition)
            if (j, i) not in self.heights:
                matrix[j, i] = matrix[i, j]
        return matrix

    def to_json(self) -> dict[str, Any]:
        """Plain data: alphas, number of networks, and the barriers and curves of each pair."""
        pairs = [
            {"pair": list(pair), **Line(heights, self.means[pair]).to_json()} for pair, heights in self.heights.items()
        ]
        about = {"alphas": self.alphas.tolist(), "networks": self.networks, "precision": self.precision}
        return {**about, "pairs": pairs}


def barriers(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    data: DataSet,
    *,
    pairs: Sequence[Pair] | None = None,
    permutations: Mapping[Pair, Permutation] | None = None,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    precision: Precision = "highest",
    memory: float | None = None,
    known: MutableMapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Barriers:
    """Barriers on the segments between networks, each as it is or permuted.

    Every network is evaluated once for all its pairs, a pair and its reverse are one curve, and outputs of linear first
    layers serve all pairs.

    Parameters
    ----------
    networks
        State dicts of ``module``.
    pairs
        Numbers (i, j) of the networks at the ends; each two of them once if None. ``[(0, j) for j in ...]`` is one
        against many.
    permutations
        ``permutations[i, j].apply(networks[j])`` lines up with network i. Where only ``[j, i]`` is given, its inverse
        is meant; without either, the network is taken as it is.
    alphas, bn, precision, memory
        See :func:`fastmatch.barrier`.
    known
        What an earlier call with the same arguments found, plain data by ``"i-j"``: such curves are not measured again,
        and what is measured is put in.
    progress
        Called with (curves done, curves).

    Raises
    ------
    OptionError
        Fewer than two alphas, a pair of numbers that are not those of two networks, or no pair.
    ModelError, DataError
        As :func:`fastmatch.evaluate`.
    """
    grid, count = alpha_grid(alphas), len(networks)
    wanted = list(combinations(range(count), 2)) if pairs is None else [(int(i), int(j)) for i, j in pairs]
    if not wanted:
        raise OptionError(f"no pairs among {count} networks; give at least two networks, or some pairs")
    for i, j in wanted:
        if not (0 <= i < count and 0 <= j < count and i != j):
            raise OptionError(f"pair ({i}, {j}) does not name two of {count} networks, which are numbered from 0")
    splits = {"train": data.train, "test": data.test}
    curve_of = partial(_curve_of, permutations or {})
    curves = list(dict.fromkeys(map(curve_of, wanted)))
    evaluator = Evaluator(
        module, splits, data.train, bn=bn, precision=precision, memory=memory, rows=len(curves) * alphas
    )
    measure = Segments(evaluator, networks, grid)
    lines, known = {}, {} if known is None else known
    for number, (i, j) in enumerate(curves):
        if (name := f"{i}-{j}") not in known:
            line = measure((i, j), _permutation_of(permutations or {}, (i, j)))
            known[name] = line.to_json() | {"precision": measure.precision}
        lines[i, j] = Line.from_json(known[name])
        if progress is not None:
            progress(number + 1, len(curves))
    heights = {pair: line.heights for pair, line in lines.items()}
    found = {pair: _seen_from(pair, curve_of(pair), heights, grid) for pair in wanted}
    means = {pair: _means_from(pair, curve_of(pair), lines) for pair in wanted}
    return Barriers(grid, count, found, means, known[f"{curves[-1][0]}-{curves[-1][1]}"]["precision"])


def _curve_of(permutations: Mapping[Pair, Permutation], pair: Pair) -> Pair:
    """The pair whose curve is that of ``pair``: its reverse may be the same curve."""
    there, back = permutations.get(pair), permutations.get(pair[::-1])
    if there is not None and back is not None and there != back.invert():
        return pair
    return min(pair, pair[::-1])


def _seen_from(pair: Pair, curve: Pair, heights: Mapping[Pair, Heights], grid: np.ndarray) -> Heights:
    """Heights of a curve, with alpha counted from the first network of ``pair``."""
    if pair == curve:
        return heights[curve]
    mirrored = dict(zip(grid.tolist(), grid[::-1].tolist(), strict=True))
    return {
        split: {quantity: replace(height, alpha=mirrored[height.alpha]) for quantity, height in found.items()}
        for split, found in heights[curve].items()
    }


def _means_from(pair: Pair, curve: Pair, lines: Mapping[Pair, Line]) -> Means:
    """Means of a curve, with alpha counted from the first network of ``pair``."""
    step = 1 if pair == curve else -1
    return {split: {q: mean[::step] for q, mean in found.items()} for split, found in lines[curve].means.items()}


def _permutation_of(permutations: Mapping[Pair, Permutation], pair: Pair) -> Permutation | None:
    """Permutation that lines the second network of a pair up with the first."""
    reverse = permutations.get(pair[::-1])
    return permutations.get(pair, None if reverse is None else reverse.invert())


class Segments:
    """Measures one segment between two of some networks after the other, and keeps the figures of its ends.

    A network that is permuted computes the same function, so that its figures serve every permutation of it.
    """

    def __init__(self, evaluator: Evaluator, networks: Sequence[Mapping[str, Tensor]], grid: np.ndarray) -> None:
        self._evaluator, self._networks, self._grid = evaluator, networks, grid
        self._ends: dict[int, dict[str, Evaluation]] = {}
        self.precision: Precision = "highest"

    def __call__(self, pair: Pair, permutation: Permutation | None = None) -> Line:
        """Barriers and means from the first network of a pair to the second, permuted if a permutation is given."""
        first, second = (self._networks[number] for number in pair)
        networks = [first, second if permutation is None else permutation.apply(second)]
        rows = np.stack([1 - self._grid, self._grid], 1)

        def figures(places: np.ndarray, exact: bool) -> dict[str, Evaluation]:
            return self._figures(pair, networks, rows[places], exact)

        shape = Shape(list(range(len(rows))), rows, [0, len(rows) - 1])
        found = sharpen(figures(np.arange(len(rows)), False), [shape], lambda places: figures(places, True))
        self.precision = found["test"].precision
        return Line.of({split: Curve(self._grid, evaluation) for split, evaluation in found.items()})

    def _figures(
        self, pair: Pair, networks: Sequence[Mapping[str, Tensor]], rows: np.ndarray, exact: bool
    ) -> dict[str, Evaluation]:
        """Figures at some places of the grid; those of the ends are exact and known, or soon will be."""
        inner = rows.all(1)
        parts = [self._end(number) for number in pair]
        if inner.any():
            parts.append(self._evaluator.evaluate(networks, rows[inner], exact=exact))
        order = np.where(inner, 1 + np.cumsum(inner), rows[:, 1].astype(int))
        return {split: joined([part[split] for part in parts], rows, order) for split in parts[0]}

    def _end(self, number: int) -> dict[str, Evaluation]:
        if number not in self._ends:
            self._ends[number] = self._evaluator.evaluate([self._networks[number]], np.ones((1, 1)), exact=True)
        return self._ends[number]
