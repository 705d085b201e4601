"""The method where nothing is known of the networks: several are tried, and judged by the network half-way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from fastmatch.errors import OptionError, SymmetryError
from fastmatch.matching.activations import match_activations
from fastmatch.matching.match import Match, Stop
from fastmatch.matching.midpoint import WITHOUT_DATA, Midpoint, lowest
from fastmatch.matching.observed import Similarity
from fastmatch.matching.pair import Pair
from fastmatch.matching.straight_through import match_straight_through
from fastmatch.matching.weights import match_weights
from fastmatch.permutation import Permutation

RESTARTS = 5
# Of a larger training set: more help activation matching little. No candidate learns labels by heart: they may be
# judged on what activations were compared on.
EXAMPLES = 5_000
SIMILARITIES: tuple[Similarity, ...] = ("summed", "pearson")  # Which is better differs from pair to pair.
Effort = Literal["normal", "high"]


def match_auto(
    pair: Pair,
    *,
    seed: int = 0,
    restarts: int = RESTARTS,
    start: Permutation | None = None,
    effort: Effort = "normal",
    progress: Callable[[int, int], None] | None = None,
) -> Match:
    """Weight matching with restarts and activation matching, of both correlations: the lowest loss half-way is kept.

    Judged on training examples, with statistics of BatchNorm reset. With ``effort="high"`` the descent through the
    assignment (:func:`match_straight_through`) goes on from the best one, and keeps it if nothing lower is found.
    Without data this is weight matching. ``start`` is where the first start of weight matching begins. A planted
    permutation is found where one of them finds it.

    Raises
    ------
    OptionError
        ``effort`` is unknown, or high without data.
    """
    if effort not in ("normal", "high"):
        raise OptionError(f"effort {effort!r} is unknown; choose normal or high")
    if effort == "high" and pair.data is None:
        raise OptionError("effort high descends on training examples; name data with --data")
    began = time.perf_counter()
    judge = None if pair.data is None else _judge(pair)
    weights = match_weights(pair.spec, pair.a, pair.b, seed=seed, restarts=restarts, start=start, progress=progress)
    if judge is None:
        return replace(weights, notes=(WITHOUT_DATA,))
    best = _best(pair, judge, weights, progress)
    if effort == "high":
        best = _descended(pair, best, seed, progress)
    return replace(best, method=f"auto: {best.method}", seed=seed, seconds=time.perf_counter() - began)


def _judge(pair: Pair) -> Midpoint:
    spec, module, a, b, data = pair.seen
    return Midpoint(spec, module, a, b, data.take(EXAMPLES))


def _best(pair: Pair, judge: Midpoint, weights: Match, progress: Callable[[int, int], None] | None) -> Match:
    """Weight or activation matching, whichever has the lowest loss half-way."""
    spec, module, a, b, data = pair.seen
    found = {weights.method: weights}
    notes: tuple[str, ...] = ()
    try:
        for similarity in SIMILARITIES:
            match = match_activations(spec, module, a, b, data.take(EXAMPLES), similarity=similarity, progress=progress)
            found[match.method] = match
    except SymmetryError as error:
        notes = (f"activations were not tried: {error}",)
    except Stop:
        notes = ("activations were not compared to the end: stopped",)
    midpoints = {name: judge.loss(match.permutation.indices) for name, match in found.items()}
    best = lowest(midpoints)
    midpoints["unaligned"] = judge.loss(spec.identity())
    figures = ", ".join(f"{name} {loss:.4g}" for name, loss in midpoints.items())
    notes += (f"loss half-way on training examples: {figures}; {best} matching is kept",)
    if midpoints[best] >= midpoints["unaligned"]:
        notes += ("no match is lower than the networks as they are; effort high may find one",)
    return replace(found[best], midpoints=midpoints, notes=notes)


def _descended(pair: Pair, best: Match, seed: int, progress: Callable[[int, int], None] | None) -> Match:
    """The descent from ``best``, with what led there."""
    found = match_straight_through(*pair.seen, seed=seed, start=best.permutation, progress=progress)
    there, here = found.midpoints["start"], found.objective_after
    words = f"descent from there: {there:.4g} -> {here:.4g} on examples held back"
    return replace(found, notes=(*best.notes, *found.notes, words))
