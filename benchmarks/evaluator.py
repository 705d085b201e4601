"""Evaluating a segment: fastmatch beside the plain loop over a loader, setup and export included."""

from __future__ import annotations

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
BATCHES = (128, 250, 1000)  # Of the plain loop, which runs at its fastest.
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
    losses, errors = evaluate_plainly(module, states, rows[::6], split)
    checked = evaluate(module, states, rows[::6], split, bn="keep", strategy="lowered")
    calls = {
        "plain": lambda: evaluate_plainly(module, states, rows, split, dtype=torch.float32, batch_size=batch),
        "functional": lambda: evaluate(module, states, rows, split, bn="keep", strategy="functional"),
        "lowered": lambda: evaluate(module, states, rows, split, bn="keep", strategy="lowered"),
    }
    off = float(np.abs(checked.loss - losses.mean(1)).max())
    return {
        "examples": len(split),
        "batch": batch,
        "agrees": off <= 1e-6 * max(1.0, float(losses.mean())) and bool((checked.errors == errors).all()),
        "loss_off": off,
        **compare(calls, [("functional", "plain"), ("lowered", "plain")], threads),
    }


def _seconds(module, states, rows, split, batch: int) -> float:
    began = time.process_time()
    evaluate_plainly(module, states, rows, split, dtype=torch.float32, batch_size=batch)
    return time.process_time() - began
