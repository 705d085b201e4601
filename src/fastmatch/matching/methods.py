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
from fastmatch.matching.match import Match
from fastmatch.matching.pair import Pair
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


def _method(run: Callable[..., Match], needs: Needs, options: str, summary: str) -> Method:
    return Method(run, needs, frozenset(options.split()), summary)


def _weight(pair: Pair, **options: Any) -> Match:
    return match_weights(pair.spec, pair.a, pair.b, **options)


def _activation(pair: Pair, *, seed: int, **options: Any) -> Match:
    return replace(match_activations(*pair.seen, **options), seed=seed)


def _straight_through(pair: Pair, **options: Any) -> Match:
    return match_straight_through(*pair.seen, **options)


def _straight_through_original(pair: Pair, **options: Any) -> Match:
    return match_straight_through_original(*pair.seen, **options)


def _annealing(pair: Pair, **options: Any) -> Match:
    return match_annealing(*pair.seen, objective="error", **options)


def _annealing_barrier(pair: Pair, **options: Any) -> Match:
    return match_annealing(*pair.seen, objective="barrier", **options)


def _exhaustive(pair: Pair, **options: Any) -> Match:
    return match_exhaustive(*pair.seen, **options)


METHODS: dict[str, Method] = {
    "auto": _method(match_auto, "weights", "restarts effort", "weights and activations, judged by the loss half-way"),
    "weight": _method(_weight, "weights", "restarts start", "coordinate descent on the inner product of weights"),
    "activation": _method(_activation, "inputs", "similarity", "correlation of activations"),
    "straight_through": _method(
        _straight_through, "labels", "start steps", "descent on the loss half-way, through similarities"
    ),
    "straight_through_original": _method(
        _straight_through_original, "labels", "start steps", "the same through weights, as in Git Re-Basin"
    ),
    "annealing": _method(_annealing, "labels", "start steps", "random swaps that lower the error of the average"),
    "annealing_barrier": _method(_annealing_barrier, "labels", "start steps", "random swaps that lower the barrier"),
    "exhaustive": _method(_exhaustive, "labels", "", "all permutations, for the lowest barrier; few units only"),
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
            takers = ", ".join(other for other, entry in METHODS.items() if name in entry.options)
            raise OptionError(f"method {method} takes no {name}; leave it out, or use a method that does: {takers}")
