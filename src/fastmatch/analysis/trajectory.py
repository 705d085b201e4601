"""One permutation for two sequences of networks, such as the checkpoints of two training runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from torch import Tensor, nn

from fastmatch.analysis.remembered import remembered
from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation.barrier import alpha_grid
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.interpolation.line import Heights, Line, heights_to_json
from fastmatch.interpolation.pairs import Segments
from fastmatch.matching import Match, match_activations, match_weights
from fastmatch.permutation import Permutation
from fastmatch.symmetry import PermutationSpec

Steps = Mapping[int, Mapping[str, Tensor]]
Method = Literal["weight", "activation"]
Progress = Callable[[int, int], None]
UNALIGNED, JOINT = "unaligned", "joint"


@dataclass(frozen=True)
class Trajectory:
    """Barriers between two sequences of networks, step by step, under permutations that hold for all steps.

    Attributes
    ----------
    steps
        Of the networks, ascending: the columns of every matrix.
    heights
        ``heights[row, step]["train" | "test"]["loss" | "error"]``: the barrier from a to b at ``step`` under the
        permutation called ``row``, or none (``"unaligned"``, the first row).
    permutations
        By row, without ``"unaligned"``.
    alphas
        Points of every curve.
    """

    steps: tuple[int, ...]
    heights: Mapping[tuple[str, int], Heights]
    permutations: Mapping[str, Permutation]
    alphas: np.ndarray

    @property
    def rows(self) -> tuple[str, ...]:
        """``"unaligned"`` and the names of the permutations: the rows of every matrix."""
        return (UNALIGNED, *self.permutations)

    def matrix(
        self,
        *,
        split: Literal["train", "test"] = "test",
        quantity: Literal["loss", "error"] = "loss",
        definition: Literal["linear", "mean", "max", "linear_se", "mean_se", "max_se"] = "linear",
    ) -> np.ndarray:
        """Barriers, or their standard errors, float64, shape [rows, steps]: nats, or fractions for the error."""
        return np.array(
            [
                [getattr(self.heights[row, step][split][quantity], definition) for step in self.steps]
                for row in self.rows
            ]
        )

    @property
    def reference(self) -> str:
        """Row whose permutation the others are compared with: that of the latest step, else the last there is."""
        numbered = [row for row in self.permutations if row.isdecimal()]
        return max(numbered, key=int) if numbered else self.rows[-1]

    def fixed_points(self) -> dict[str, dict[str, int]]:
        """For each permutation and group, the places to which that of :attr:`reference` takes the same unit."""
        return {row: one.fixed_points(self.permutations[self.reference]) for row, one in self.permutations.items()}

    def fixed_fraction(self) -> dict[str, float]:
        """Fixed points of each permutation as a share of all units (Sharma et al. 2024, appendix G)."""
        return {row: fixed_fraction(one, self.permutations[self.reference]) for row, one in self.permutations.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data: steps, alphas, the barriers of each row and step, and the fixed points."""
        found = [
            {"permutation": row, "step": step, "barriers": heights_to_json(self.heights[row, step])}
            for row in self.rows
            for step in self.steps
        ]
        fixed = self.fixed_points() if self.permutations else {}
        return {
            "steps": list(self.steps),
            "permutations": list(self.rows),
            "alphas": self.alphas.tolist(),
            "heights": found,
            "reference": self.reference if self.permutations else None,
            "fixed_points": fixed,
            "fixed_fraction": self.fixed_fraction() if self.permutations else {},
        }


def fixed_fraction(one: Permutation, other: Permutation | None = None) -> float:
    """Share of all units that two permutations (the second the identity if None) take to the same place.

    A group with a base counts the units of every joint index of it (Sharma et al. 2024, appendix G). Where there are no
    units, nothing is taken elsewhere: 1.
    """
    units = sum(index.size for index in one.indices.values())
    return sum(one.fixed_points(other).values()) / units if units else 1.0


def trajectory(
    module: nn.Module,
    spec: PermutationSpec,
    a: Steps,
    b: Steps,
    data: DataSet,
    *,
    method: Method = "weight",
    at: Sequence[int] | None = None,
    joint: bool = False,
    seed: int = 0,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    known: MutableMapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Match two training runs at some steps, and measure every permutation at all steps.

    Parameters
    ----------
    spec
        Groups of ``module``.
    a, b
        State dicts of ``module`` by step, the same steps in both. b is aligned to a.
    data
        The training split gives activations to compare; both splits are evaluated.
    method
        ``"weight"``, or ``"activation"`` with the linear kernel of the paper (appendix A).
    at
        Steps to match at, each a row named by its number; all if None.
    joint
        One more row, ``"joint"``: the permutation found from all steps together, their similarities added up.
    seed
        Of weight matching.
    alphas, bn
        See :func:`fastmatch.barrier`.
    known
        Plain data found before, asked for before anything is computed, and extended by what is.
    progress
        Called with (permutations and curves done, all of them).

    Raises
    ------
    OptionError
        The runs have different steps or fewer than two, a step of ``at`` is none of them, nothing is to be matched, or
        the method is unknown.

    References
    ----------
    Sharma et al. 2024, section 5.1 and appendix H.1, figures 1, 4, 9 and 15.
    """
    if method not in get_args(Method):
        raise OptionError(f"method {method!r} is unknown; choose {' or '.join(get_args(Method))}")
    steps = common_steps(a, b)
    if unknown := [step for step in at or () if step not in a]:
        raise OptionError(f"there is no step {unknown[0]}; the runs have {', '.join(map(str, steps))}")
    sources: dict[str, list[int]] = {str(step): [step] for step in (steps if at is None else sorted(set(at)))}
    if joint:
        sources[JOINT] = list(steps)
    if not sources:
        raise OptionError("no step to match at; name some, or match all steps together")
    known = {} if known is None else known
    total = len(sources) + (1 + len(sources)) * len(steps)
    permutations = {}
    for number, (row, chosen) in enumerate(sources.items(), start=1):
        sides = [a[step] for step in chosen], [b[step] for step in chosen]
        find = partial(_match, module, spec, *sides, data, method, seed)
        permutations[row] = remembered(known, f"permutation {row}", spec, find)
        if progress is not None:
            progress(number, total)

    def tick(done: int, _: int) -> None:
        if progress is not None:
            progress(len(sources) + done, total)

    return simultaneous_barriers(module, a, b, data, permutations, alphas=alphas, bn=bn, known=known, progress=tick)


def _match(
    module: nn.Module,
    spec: PermutationSpec,
    a: Sequence[Mapping[str, Tensor]],
    b: Sequence[Mapping[str, Tensor]],
    data: DataSet,
    method: Method,
    seed: int,
) -> Match:
    if method == "weight":
        return match_weights(spec, a, b, seed=seed)
    return match_activations(spec, module, a, b, data.train, similarity="linear")


def simultaneous_barriers(
    module: nn.Module,
    a: Steps,
    b: Steps,
    data: DataSet,
    permutations: Mapping[str, Permutation],
    *,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    known: MutableMapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Trajectory:
    """Barriers at every step without alignment and under each of some permutations (Sharma et al. 2024, definition 3).

    Parameters
    ----------
    a, b
        State dicts of ``module`` by step, the same steps in both.
    permutations
        By name: each lines b up with a at all steps.
    alphas, bn
        See :func:`fastmatch.barrier`.
    known
        Plain data by name and step that were found before with the same permutations; extended by what is computed.
    progress
        Called with (curves done, curves).

    Raises
    ------
    OptionError
        The sequences have different steps or fewer than two, or a permutation is called "unaligned".
    """
    steps = common_steps(a, b)
    if UNALIGNED in permutations:
        raise OptionError(f"a permutation cannot be called {UNALIGNED!r}: that is the row without one")
    grid, rows = alpha_grid(alphas), {UNALIGNED: None, **permutations}
    known = {} if known is None else known
    places = [(row, step) for step in steps for row in rows]
    splits = {"train": data.train, "test": data.test}
    evaluator = Evaluator(module, splits, data.train, bn=bn, rows=len(places) * len(grid))
    measure = Segments(evaluator, [side[step] for side in (a, b) for step in steps], grid)
    for number, (row, step) in enumerate(places, start=1):
        if _key(row, step) not in known:
            pair = steps.index(step), len(steps) + steps.index(step)
            known[_key(row, step)] = measure(pair, rows[row]).to_json()
        if progress is not None:
            progress(number, len(places))
    heights = {place: Line.from_json(known[_key(*place)]).heights for place in places}
    return Trajectory(steps, heights, dict(permutations), grid)


def _key(row: str, step: int) -> str:
    return f"barrier {row} {step}"


def common_steps(a: Steps, b: Steps) -> tuple[int, ...]:
    """Steps of two sequences, ascending; OptionError where they differ or are fewer than two."""
    if differing := sorted(a.keys() ^ b.keys()):
        side = "first" if differing[0] in a else "second"
        raise OptionError(
            f"only the {side} run has step {differing[0]}; save both after the same steps "
            f"({len(a.keys() & b.keys())} are common)"
        )
    if len(a) < 2:
        raise OptionError(f"a trajectory has at least two steps, received {len(a)}; save more of training")
    return tuple(sorted(a))
