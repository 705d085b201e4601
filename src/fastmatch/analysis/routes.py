"""Alignment through other networks: indirect permutations, transitivity, and round trips."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from fastmatch.analysis.trajectory import fixed_fraction
from fastmatch.data import DataSet
from fastmatch.errors import OptionError
from fastmatch.interpolation.barrier import alpha_grid
from fastmatch.interpolation.evaluator import BatchNormMode, Evaluator
from fastmatch.interpolation.line import Heights, heights_to_json
from fastmatch.interpolation.pairs import Segments
from fastmatch.permutation import Permutation

Pair = tuple[int, int]
Route = tuple[int, ...]


@dataclass(frozen=True)
class RouteResult:
    """The last network of a route lined up with the first, through those between.

    Attributes
    ----------
    route
        Numbers of the networks; the same at both ends for a round trip.
    indirect
        What the permutations along the route do together.
    direct
        The permutation found between the ends themselves; the identity for a round trip.
    heights
        Barriers between the ends by ``"unaligned"``, ``"indirect"`` and ``"direct"``, then by split and quantity.
    """

    route: Route
    indirect: Permutation
    direct: Permutation
    heights: Mapping[str, Heights]

    @property
    def fixed_points(self) -> dict[str, int]:
        """For each group, the places to which both permutations take the same unit."""
        return self.indirect.fixed_points(self.direct)

    @property
    def fixed_fraction(self) -> float:
        """Fixed points as a share of all units."""
        return fixed_fraction(self.indirect, self.direct)

    def to_json(self) -> dict[str, Any]:
        """Plain data, without the permutations."""
        return {
            "route": list(self.route),
            "fixed_points": self.fixed_points,
            "fixed_fraction": self.fixed_fraction,
            "barriers": {name: heights_to_json(heights) for name, heights in self.heights.items()},
        }


def compose_route(permutations: Mapping[Pair, Permutation], route: Sequence[int]) -> Permutation:
    """The permutation that lines the last network of a route up with the first, from those along it.

    Parameters
    ----------
    permutations
        ``permutations[i, j].apply(networks[j])`` lines up with network i. Where only ``[j, i]`` is given, its inverse
        is meant.
    route
        At least two numbers; (i, j, k) lines k up with j, and j with i.

    Raises
    ------
    OptionError
        The route is too short, or a permutation along it is missing.
    """
    if len(route) < 2:
        raise OptionError(f"a route joins two networks at least, received {tuple(route)}")
    # The units of the last network move first: next to those of its neighbour, then on with them.
    along = [_between(permutations, pair) for pair in pairwise(route)]
    return reduce(lambda done, then: done.compose(then), reversed(along))


def _between(permutations: Mapping[Pair, Permutation], pair: Pair) -> Permutation:
    if pair in permutations:
        return permutations[pair]
    if pair[::-1] in permutations:
        return permutations[pair[::-1]].invert()
    raise OptionError(f"there is no permutation between networks {pair[0]} and {pair[1]}; match them first")


def routes(
    module: nn.Module,
    networks: Sequence[Mapping[str, Tensor]],
    permutations: Mapping[Pair, Permutation],
    data: DataSet,
    chosen: Sequence[Sequence[int]],
    *,
    alphas: int = 25,
    bn: BatchNormMode = "reset",
    progress: Callable[[int, int], None] | None = None,
) -> list[RouteResult]:
    """Barriers between networks lined up through others, beside those lined up directly, and their fixed points.

    With the route (a, reference, b), a and b are each aligned with a third network: that they are then connected with
    one another is what strong linear connectivity asks (Sharma et al. 2024, definition 2). Round trips (a, b, c, a) end
    in a permutation of a network's own units: the identity, where alignment is transitive (appendix C).

    Parameters
    ----------
    networks
        State dicts of ``module``.
    permutations
        See :func:`compose_route`; those between the ends of routes are the direct ones.
    chosen
        Routes of three numbers or more.
    alphas, bn
        See :func:`fastmatch.barrier`.
    progress
        Called with (routes done, routes).

    Raises
    ------
    OptionError
        A route is shorter than three networks, names one that is not there, or lacks a permutation.

    References
    ----------
    Sharma et al. 2024, section 5.3 and appendices C and G, figures 3 and 14.
    """
    ways = [tuple(map(int, route)) for route in chosen]
    for route in ways:
        if len(route) < 3 or not all(0 <= number < len(networks) for number in route):
            raise OptionError(
                f"route {route} does not lead through three or more of {len(networks)} networks, which are "
                "numbered from 0"
            )
    found = [(route, compose_route(permutations, route), _direct(permutations, route)) for route in ways]
    grid = alpha_grid(alphas)
    splits = {"train": data.train, "test": data.test}
    evaluator = Evaluator(module, splits, data.train, bn=bn, rows=3 * len(ways) * len(grid))
    measure = Segments(evaluator, networks, grid)
    results = []
    for number, (route, indirect, direct) in enumerate(found, start=1):
        ends = route[0], route[-1]
        heights = {
            "unaligned": measure(ends).heights,
            "indirect": measure(ends, indirect).heights,
            "direct": measure(ends, direct).heights,
        }
        results.append(RouteResult(route, indirect, direct, heights))
        if progress is not None:
            progress(number, len(found))
    return results


def _direct(permutations: Mapping[Pair, Permutation], route: Route) -> Permutation:
    if route[0] != route[-1]:
        return _between(permutations, (route[0], route[-1]))
    return Permutation.identity(_between(permutations, (route[0], route[1])).spec)
