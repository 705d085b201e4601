"""Evaluating combinations of networks: fastmatch beside the plain loop over a loader, setup and export included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from benchmarks import trained
from benchmarks.report import Row
from benchmarks.timing import compare, cores
from fastmatch import DataSet, Permutation, barriers, evaluate, networks
from fastmatch.interpolation.evaluator import Evaluator
from fastmatch.interpolation.reference import evaluate_plainly

ALPHAS, PAIR_ALPHAS, POPULATION = 25, 11, 6
BATCHES = (32, 64, 128, 250, 1000)  # Of the plain loop, which runs at its fastest.
_WAYS: dict[str, dict[str, Any]] = {
    "functional": {"strategy": "functional"},
    "lowered": {"strategy": "lowered"},
    "fast": {"strategy": "lowered", "precision": "fast"},
}
_RESNET = "resnet20(width=1, norm={norm}, in_channels={{channels}}, size={{side}})"
_VGG = "vgg16(width=16, norm={norm}, in_channels={{channels}}, size={{side}})"
_MLP = "mlp({size}, 512, 512, 512, {classes})"


class Case(NamedTuple):
    """What is timed, on which network by its model string, and on how many examples."""

    measure: Callable[[str, int, int], Row]
    model: str
    examples: int


def measure(names: Iterable[str], threads: int) -> Iterator[Row]:
    """One row for each case: whether losses and errors agree, then times."""
    data = trained.data()
    channels, side, _ = data.input_shape
    shape = {"size": channels * side * side, "channels": channels, "side": side, "classes": data.classes}
    for name in names:
        case = CASES[name]
        with cores(threads):
            yield {"case": name, **case.measure(case.model.format(**shape), case.examples, threads)}


def _line(model: str, examples: int, threads: int) -> Row:
    """25 alphas between two trained networks, on test examples, statistics interpolated."""
    module, states, split = networks.build(model).eval(), trained.pair(model), trained.data().test.take(examples)
    rows = _rows(ALPHAS)
    plain = partial(evaluate_plainly, module, states, data=split)
    batch = _best_batch(lambda size: plain(coefficients=rows[:1], dtype=torch.float32, batch_size=size))
    calls = {
        name: partial(evaluate, module, states, data=split, bn="keep", **options) for name, options in _WAYS.items()
    }
    losses, errors = plain(coefficients=rows[::6])
    checked = {name: call(coefficients=rows[::6]) for name, call in calls.items()}
    off = {name: float(np.abs(found.loss - losses.mean(1)).max()) for name, found in checked.items()}
    close = {name: 1e-6 if checked[name].precision == "highest" else 1e-3 for name in off}
    scale = max(1.0, losses.mean(1).max())
    timed = {name: partial(call, coefficients=rows) for name, call in calls.items()}
    timed["plain"] = lambda: plain(coefficients=rows, dtype=torch.float32, batch_size=batch)
    return {
        "examples": examples,
        "batch": batch,
        "agrees": all(off[name] <= close[name] * scale and (checked[name].errors == errors).all() for name in off),
        **{f"{name} off": value for name, value in off.items()},
        "precision": checked["fast"].precision,
        **compare(timed, [(name, "plain") for name in calls], threads),
    }


def _reset(model: str, examples: int, threads: int) -> Row:
    """25 alphas, on as many training as test examples, statistics reset on the training examples."""
    module, states, data = networks.build(model).eval(), trained.pair(model), trained.data().take(examples)
    rows, splits = _rows(ALPHAS), {"train": data.train, "test": data.test}

    def ours(rows: np.ndarray, **options: Any) -> dict[str, Any]:
        return Evaluator(module, splits, data.train, **options).evaluate(states, rows)

    def plain(rows: np.ndarray, batch: int) -> None:
        for split in (data.train, data.test):
            evaluate_plainly(module, states, rows, split, dtype=torch.float32, batch_size=batch)
        for row in rows:
            _train_mode_pass(module, states, row, data, batch)

    batch = _best_batch(lambda size: plain(rows[:1], size))
    losses, errors = evaluate_plainly(module, states, rows[:13:6], data.test, statistics=data.train)
    found = ours(rows[:13:6], strategy="lowered")["test"]
    off = float(np.abs(found.loss - losses.mean(1)).max())
    calls: dict[str, Callable[[], object]] = {
        name: partial(ours, rows, **options) for name, options in _WAYS.items() if name != "functional"
    }
    ratios = [(name, "plain") for name in calls]
    calls["plain"] = partial(plain, rows, batch)
    agrees = off <= 1e-6 * max(1.0, losses.mean(1).max()) and bool((found.errors == errors).all())
    return {
        "examples": examples,
        "batch": batch,
        "agrees": agrees,
        "lowered off": off,
        **compare(calls, ratios, threads),
    }


def _train_mode_pass(module: nn.Module, states: Any, row: np.ndarray, data: DataSet, batch: int) -> None:
    """Statistics as published code resets them: one pass in training mode."""
    with torch.no_grad():
        module.load_state_dict({name: row[0] * states[0][name] + row[1] * states[1][name] for name in states[0]})
        module.train()
        for inputs, _ in data.train.batches(batch):
            module(inputs)
    module.eval()


def _all_pairs(model: str, examples: int, threads: int) -> Row:
    """11 alphas on all ordered pairs of six networks, the second of each permuted, on training and test examples."""
    module, states = networks.build(model).eval(), [trained.network(model, seed) for seed in range(POPULATION)]
    data, spec = trained.data().take(examples), trained.trace(model)
    pairs = list(permutations(range(POPULATION), 2))
    aligned = {(i, j): Permutation.random(spec, seed=7 * i + j) for i, j in pairs if i < j}
    aligned |= {(j, i): permutation.invert() for (i, j), permutation in aligned.items()}
    ours = partial(barriers, module, states, data, pairs=pairs, permutations=aligned, alphas=PAIR_ALPHAS)

    def plain(pairs: list[tuple[int, int]], dtype: torch.dtype, batch: int = 250) -> np.ndarray:
        heights = []
        for i, j in pairs:
            ends = [states[i], aligned[i, j].apply(states[j])]
            splits = (data.test, data.train)
            options = {"dtype": dtype, "batch_size": batch}
            losses = [evaluate_plainly(module, ends, _rows(PAIR_ALPHAS), split, **options)[0] for split in splits]
            mean = losses[0].mean(1)
            heights.append((mean - np.linspace(mean[0], mean[-1], PAIR_ALPHAS)).max())
        return np.array(heights)

    batch = _best_batch(lambda size: plain(pairs[:1], torch.float32, size))
    few = pairs[::7]
    expected = plain(few, torch.float64)
    found = {name: ours(precision=name).matrix() for name in ("highest", "fast")}
    off = {name: float(np.abs([matrix[pair] for pair in few] - expected).max()) for name, matrix in found.items()}
    calls: dict[str, Callable[[], object]] = {name: partial(ours, precision=name) for name in found}
    calls["plain"] = lambda: plain(pairs, torch.float32, batch)
    return {
        "examples": examples,
        "batch": batch,
        "agrees": off["highest"] <= 1e-5 and off["fast"] <= 1e-3,
        **{f"{name} off": value for name, value in off.items()},
        **compare(calls, [(name, "plain") for name in found], threads),
    }


CASES = {
    "MLP 512x3": Case(_line, _MLP, 10_000),
    "ResNet-20 batch": Case(_line, _RESNET.format(norm="batch"), 1000),
    "ResNet-20 layer": Case(_line, _RESNET.format(norm="layer"), 1000),
    "VGG-16 x1/4 batch": Case(_line, _VGG.format(norm="batch"), 1000),
    "VGG-16 x1/4 layer": Case(_line, _VGG.format(norm="layer"), 1000),
    "reset ResNet-20 batch": Case(_reset, _RESNET.format(norm="batch"), 1000),
    "reset VGG-16 x1/4 batch": Case(_reset, _VGG.format(norm="batch"), 1000),
    "pairs of 6 MLP 512x3": Case(_all_pairs, _MLP, 2000),
}


def _rows(alphas: int) -> np.ndarray:
    grid = np.linspace(0, 1, alphas)
    return np.stack([1 - grid, grid], 1)


def _best_batch(run: Callable[[int], object]) -> int:
    """Size of batches with which ``run`` takes least, in the second of two runs."""

    def seconds(size: int) -> float:
        run(size)
        began = time.process_time()
        run(size)
        return time.process_time() - began

    return min(BATCHES, key=seconds)
