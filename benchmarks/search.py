"""Searches on weights: restarts and Frank-Wolfe beside a hundred plain restarts and plain Frank-Wolfe.

Gains are objectives less that of the identity. Seconds are of the processor, on one pair and one thread after the
other. Plain restarts are timed on the first few of the hundred starts and scaled; the objectives of the hundred come
from fastmatch's descent, which reaches the same permutations (``agrees`` says so of those that ran plainly).
"""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, minimize_scalar
from torch import Tensor

from benchmarks import narrow, trained
from benchmarks.report import Row
from benchmarks.timing import cores
from benchmarks.trained import State
from fastmatch import PermutationSpec, match_frank_wolfe, match_weights
from fastmatch.matching.descent import Descent
from fastmatch.matching.outcome import Starts, run
from fastmatch.matching.problem import Problem
from fastmatch.matching.reference import match_weights_plainly
from fastmatch.matching.relaxed import Objective, blend, vertices
from fastmatch.permutation import Permutation

STARTS, PLAIN, SEEDS, RESTARTS = 100, 10, 5, 10
_STEPS, _GAP = 100, 1e-6  # Of plain Frank-Wolfe.
_Result = TypeVar("_Result")
Loaded = tuple[PermutationSpec, State, State]


def _mlp(first: int, second: int) -> Loaded:
    model = trained.mlp(512, 512, 512)
    return trained.trace(model), trained.network(model, first), trained.network(model, second)


def _narrow(kind: str, first: int, second: int) -> Loaded:
    model, _ = narrow.KINDS[kind]
    return trained.trace(model), narrow.network(kind, first), narrow.network(kind, second)


CASES: dict[str, Callable[[], Loaded]] = {
    "MLP 512x3 (2, 3)": functools.partial(_mlp, 2, 3),
    **{
        f"{kind} ({first}, {second})": functools.partial(_narrow, kind, first, second)
        for kind in ("ResNet-20 LN", "ResNet-20 BN", "VGG-16 LN")
        for first, second in ((10, 11), (12, 13))
    },
}


def measure(names: Iterable[str], threads: int) -> Iterator[Row]:
    """One row for each pair of networks: gains, and how soon restarts reach those of the alternatives."""
    for name in names:
        spec, a, b = CASES[name]()
        with cores(threads):
            match_weights(spec, a, b, restarts=2)  # compiles the solver
            yield {"case": name, **_row(spec, a, b)}


def _row(spec: PermutationSpec, a: State, b: State) -> Row:
    problem = Problem(spec, a, b)
    identity = sum(problem.products({}).values())
    plain_seconds, agrees, objectives = _plain_restarts(problem)
    (found, frank_wolfe_seconds) = _timed(lambda: _plain_frank_wolfe(problem))
    frank_wolfe = sum(problem.products(found).values())
    ours = [_restarts(spec, a, b, seed) for seed in range(SEEDS)]
    relaxed, relaxed_seconds = _timed(lambda: match_frank_wolfe(spec, a, b))
    target = max(max(objectives), frank_wolfe)
    reached = {key: [_reached(*run, goal) for run in ours] for key, goal in _goals(objectives, frank_wolfe).items()}
    hundred = plain_seconds * STARTS
    return {
        "identity": identity,
        "plain_gain": max(objectives) - identity,
        "plain_frank_wolfe_gain": frank_wolfe - identity,
        "frank_wolfe_gain": relaxed.objective_after - identity,
        **{f"gain_{count}": _median([max(run[0][:count]) - identity for run in ours]) for count in (1, 2, 5, RESTARTS)},
        "plain_s": hundred,
        "plain_frank_wolfe_s": frank_wolfe_seconds,
        "frank_wolfe_s": relaxed_seconds,
        "restarts_s": _median([run[1][-1] for run in ours]),
        **{f"{key}_s": _median_reached(values) for key, values in reached.items()},
        "share_of_plain": _share(_median_reached(reached["reach_plain"]), hundred),
        "share_of_frank_wolfe": _share(_median_reached(reached["reach_frank_wolfe"]), frank_wolfe_seconds),
        "agrees": agrees,
        "beyond_both": sum(max(run[0]) >= target for run in ours) / SEEDS,
        "runs": [{"objectives": list(found), "seconds": seconds} for found, seconds in ours],
    }


def _goals(objectives: list[float], frank_wolfe: float) -> dict[str, float]:
    return {"reach_plain": max(objectives), "reach_frank_wolfe": frank_wolfe}


def _median(values: list[float]) -> float:
    return statistics.median(values)


def _median_reached(values: list[float | None]) -> float | None:
    """Median of times, of which those that are None come last; None where it is one of them."""
    middle = statistics.median_high([math.inf if value is None else value for value in values])
    return None if math.isinf(middle) else middle


def _share(seconds: float | None, whole: float) -> float | None:
    return None if seconds is None else seconds / whole


def _timed(call: Callable[[], _Result]) -> tuple[_Result, float]:
    began = time.process_time()
    return call(), time.process_time() - began


def _restarts(spec: PermutationSpec, a: State, b: State, seed: int) -> tuple[tuple[float, ...], list[float]]:
    """Objective of every start, and the seconds from the beginning after each."""
    began, seconds = time.process_time(), []
    match = match_weights(
        spec,
        a,
        b,
        seed=seed,
        restarts=RESTARTS,
        progress=lambda done, total: seconds.append(time.process_time() - began),
    )
    return match.restarts, seconds


def _reached(objectives: tuple[float, ...], seconds: list[float], goal: float) -> float | None:
    """When the best objective reached a goal; None if it did not."""
    return next((at for found, at in zip(objectives, seconds, strict=True) if found >= goal), None)


def _plain_restarts(problem: Problem) -> tuple[float, bool, list[float]]:
    """Seconds of a plain start, whether those timed agree with fastmatch's descents, and the objectives of all."""
    spec, a, b = problem.spec, problem.a, problem.b
    starts, times, agrees, still = Starts(problem), [], True, {}
    for number in range(STARTS):
        begin = spec.random(number)
        order = np.random.default_rng(np.random.SeedSequence(number).spawn(1)[0])
        descent = Descent(problem, order, dict(begin), 1 << 30, still)
        with torch.no_grad():
            run(descent)
        starts.add(descent)
        if number < PLAIN:
            (found, _), seconds = _timed(lambda: match_weights_plainly(spec, a, b, seed=number, start=begin))  # noqa: B023
            times.append(seconds)
            agrees &= Permutation(spec, found) == Permutation(spec, descent.indices)
    return statistics.fmean(times), agrees, starts.objectives


def _plain_frank_wolfe(problem: Problem) -> dict[str, np.ndarray]:
    """As Crisostomi et al. 2024 describe it, from the identity: float64, cold assignments and steps by scipy."""
    first = problem.spec.identity()
    like = {name: torch.zeros((), dtype=torch.float64) for name in problem.terms}
    soft: dict[str, Tensor] = vertices(first, like)
    objective = Objective(problem.spec, problem.a, problem.b, soft)
    for _ in range(_STEPS):
        value, gradients = objective.gradients(soft)
        ends = vertices(_assigned(gradients), soft)
        if sum(float((gradients[name] * (ends[name] - soft[name])).sum()) for name in soft) <= _GAP * abs(value):
            break
        step = minimize_scalar(lambda t: -objective.value(blend(soft, ends, t)), bounds=(0, 1), method="bounded")  # noqa: B023
        soft = blend(soft, ends, float(step.x))
    return first | _assigned(soft)


def _assigned(matrices: dict[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: linear_sum_assignment(matrix.numpy(), maximize=True)[1] for name, matrix in matrices.items()}
