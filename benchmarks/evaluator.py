"""Evaluating a segment: fastmatch beside the plain loop over a loader, setup and export included."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from benchmarks import trained
from benchmarks.report import Row
from benchmarks.timing import compare, cores
from fastmatch import evaluate, networks
from fastmatch.interpolation.reference import evaluate_plainly

ALPHAS = 25
BATCHES = (32, 64, 128, 250, 1000)  # Of the plain loop, which runs at its fastest.
_TRIAL = 500  # Examples that decide which that is.


class Case(NamedTuple):
    """A network by its model string, given the shape of one image, and the number of test examples."""

    model: str
    examples: int


CASES = {
    "MLP 512x3": Case("mlp({size}, 512, 512, 512, {classes})", 10_000),
    "ResNet-20 batch": Case("resnet20(width=1, norm=batch, in_channels={channels}, size={side})", 500),
    "ResNet-20 layer": Case("resnet20(width=1, norm=layer, in_channels={channels}, size={side})", 500),
    "VGG-16 x1/4 batch": Case("vgg16(width=16, norm=batch, in_channels={channels}, size={side})", 1000),
    "VGG-16 x1/4 layer": Case("vgg16(width=16, norm=layer, in_channels={channels}, size={side})", 1000),
}


def measure(names: Iterable[str], threads: int) -> Iterator[Row]:
    """One row for each network: whether losses and errors agree, then times."""
    data = trained.data()
    channels, side, _ = data.input_shape
    shape = {"size": channels * side * side, "channels": channels, "side": side, "classes": data.classes}
    for name in names:
        model, examples = CASES[name]
        model = model.format(**shape)
        module, states = networks.build(model).eval(), trained.pair(model)
        with cores(threads):
            yield {"case": name, **_row(module, states, data.test.take(examples), threads)}


def _row(module, states, split, threads: int) -> Row:
    rows = np.stack([1 - np.linspace(0, 1, ALPHAS), np.linspace(0, 1, ALPHAS)], 1)
    batch = min(BATCHES, key=lambda size: _seconds(module, states, rows[:1], split.take(_TRIAL), size))

    def run(rows, **options):
        return evaluate(module, states, rows, split, bn="keep", **options)

    ways = {
        "functional": {"strategy": "functional"},
        "lowered": {"strategy": "lowered"},
        "fast": {"strategy": "lowered", "precision": "fast"},
    }
    losses, errors = evaluate_plainly(module, states, rows[::6], split)
    checked = {name: run(rows[::6], **options) for name, options in ways.items()}
    off = {name: float(np.abs(found.loss - losses.mean(1)).max()) for name, found in checked.items()}
    close = {
        name: (1e-6 if checked[name].precision == "highest" else 1e-3) * max(1.0, losses.mean(1).max()) for name in off
    }
    calls = {name: functools.partial(run, rows, **options) for name, options in ways.items()}
    calls["plain"] = lambda: evaluate_plainly(module, states, rows, split, dtype=torch.float32, batch_size=batch)
    return {
        "examples": len(split),
        "batch": batch,
        "agrees": all(off[name] <= close[name] and (checked[name].errors == errors).all() for name in ways),
        "off": off,
        "precision": checked["fast"].precision,
        **compare(calls, [(name, "plain") for name in ways], threads),
    }


def _seconds(module, states, rows, split, batch: int) -> float:
    began = time.process_time()
    evaluate_plainly(module, states, rows, split, dtype=torch.float32, batch_size=batch)
    return time.process_time() - began
