"""All matching methods by name, behind one function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

from fastmatch.errors import OptionError
from fastmatch.matching.activations import match_activations
from fastmatch.matching.auto import match_auto
from fastmatch.matching.frank_wolfe import match_frank_wolfe
from fastmatch.matching.match import Match
from fastmatch.matching.pair import Pair
from fastmatch.matching.sinkhorn import Loss, match_sinkhorn
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


def _frank_wolfe(pair: Pair, **options: Any) -> Match:
    return match_frank_wolfe(pair.spec, pair.a, pair.b, **options)


def _activation(pair: Pair, *, seed: int, **options: Any) -> Match:
    return replace(match_activations(*pair.seen, **options), seed=seed)


def _sinkhorn(pair: Pair, *, loss: Loss, **options: Any) -> Match:
    return match_sinkhorn(*pair.seen, loss=loss, **options)


METHODS: dict[str, Method] = {
    "auto": _method(match_auto, "weights", "restarts effort", "weights and activations, judged by the loss half-way"),
    "weight": _method(_weight, "weights", "restarts start", "coordinate descent on the inner product of weights"),
    "frank_wolfe": _method(
        _frank_wolfe, "weights", "restarts start steps", "all groups at once, over soft permutations of weights"
    ),
    "activation": _method(_activation, "inputs", "similarity", "correlation of activations"),
    "sinkhorn": _method(
        partial(_sinkhorn, loss="midpoint"), "labels", "start steps", "descent on the loss half-way, softly permuted"
    ),
    "sinkhorn_random": _method(
        partial(_sinkhorn, loss="random"), "labels", "start steps", "the same, at a random place between the networks"
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
            takers = ", ".join(other for other, entry in METHODS.items() if name in entry.options)
            raise OptionError(f"method {method} takes no {name}; leave it out, or use a method that does: {takers}")
