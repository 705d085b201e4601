"""All matching methods by name, behind one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from fastmatch.errors import OptionError
from fastmatch.matching.activations import match_activations
from fastmatch.matching.annealing import match_annealing
from fastmatch.matching.auto import match_auto
from fastmatch.matching.exhaustive import match_exhaustive
from fastmatch.matching.frank_wolfe import match_frank_wolfe
from fastmatch.matching.functional import match_functional
from fastmatch.matching.match import Match
from fastmatch.matching.pair import Pair
from fastmatch.matching.sinkhorn import match_sinkhorn
from fastmatch.matching.straight_through import match_straight_through, match_straight_through_original
from fastmatch.matching.weights import match_weights

Needs = Literal["weights", "inputs", "labels"]
Progress = Callable[[int, int], None]


class Method(NamedTuple):
    """One method: how it runs, what it cannot do without, and the options it takes beside seed and progress."""

    run: Callable[..., Match]
    needs: Needs
    options: frozenset[str]
    summary: str


def _by_weights(function: Callable[..., Match], options: str, summary: str) -> Method:
    def run(pair: Pair, **given: Any) -> Match:
        return function(pair.spec, pair.a, pair.b, **given)

    return Method(run, "weights", frozenset(options.split()), summary)


def _by_examples(function: Callable[..., Match], needs: Needs, options: str, summary: str, **fixed: Any) -> Method:
    def run(pair: Pair, **given: Any) -> Match:
        return function(*pair.seen, **fixed, **given)

    return Method(run, needs, frozenset(options.split()), summary)


def _activation(pair: Pair, *, seed: int, **options: Any) -> Match:
    return replace(match_activations(*pair.seen, **options), seed=seed)


_SEARCH = "start steps"
METHODS: dict[str, Method] = {
    "weight": _by_weights(match_weights, "restarts start", "coordinate descent on the inner product of weights"),
    "frank_wolfe": _by_weights(match_frank_wolfe, "restarts start steps", "the same, all groups at once, relaxed"),
    "activation": Method(_activation, "inputs", frozenset(("similarity",)), "correlation of activations"),
    "functional": _by_examples(match_functional, "inputs", "", "smallest functional difference, layer by layer"),
    "functional_greedy": _by_examples(
        match_functional, "inputs", "", "the same greedily, as published", assignment="greedy"
    ),
    "straight_through": _by_examples(
        match_straight_through, "labels", _SEARCH, "descent on the loss half-way, through similarities"
    ),
    "straight_through_original": _by_examples(
        match_straight_through_original, "labels", _SEARCH, "the same through weights, as in Git Re-Basin"
    ),
    "sinkhorn": _by_examples(
        match_sinkhorn, "labels", _SEARCH, "descent on the loss half-way, through soft permutations", loss="midpoint"
    ),
    "sinkhorn_random": _by_examples(
        match_sinkhorn, "labels", _SEARCH, "the same, at random places between the networks", loss="random"
    ),
    "annealing": _by_examples(
        match_annealing, "labels", _SEARCH, "random swaps that lower the error of the average", objective="error"
    ),
    "annealing_barrier": _by_examples(
        match_annealing, "labels", _SEARCH, "random swaps that lower the barrier", objective="barrier"
    ),
    "exhaustive": _by_examples(match_exhaustive, "labels", "", "all permutations of few units, for the lowest barrier"),
    "auto": Method(
        match_auto,
        "weights",
        frozenset(("restarts", "start", "effort")),
        "weights or activations, by the loss half-way",
    ),
}


def match(
    pair: Pair, method: str = "auto", *, seed: int = 0, progress: Progress | None = None, **options: Any
) -> Match:
    """Match with the method of this name; options that are None are left to the method.

    Raises
    ------
    OptionError
        The method is unknown, or takes no such option.
    DataError
        The method needs data and there are none.
    """
    check_options(method, **options)
    given = {name: value for name, value in options.items() if value is not None}
    return METHODS[method].run(pair, seed=seed, progress=progress, **given)


def check_options(method: str, **options: Any) -> None:
    """Raise OptionError unless there is a method of this name, and it takes the options that are not None."""
    if method not in METHODS:
        raise OptionError(f"method {method!r} is unknown; choose from {', '.join(METHODS)}")
    for name, value in options.items():
        if value is not None and name not in METHODS[method].options:
            takers = " or ".join(other for other, entry in METHODS.items() if name in entry.options)
            others = f", or use --method {takers}" if takers else ""
            raise OptionError(f"method {method} takes no {name}; leave it out{others}")
