"""Activation matching of two random networks: seconds in all, and of its parts."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import fastmatch
from benchmarks import trained
from benchmarks.report import Row
from fastmatch import Match, Split, assignment, kernels, networks, training
from fastmatch.kernels import Implementation
from fastmatch.symmetry import GraphRunner

_AGREE = 1e-4  # Relative difference of objectives.


def title(model: str, examples: int) -> str:
    return f"end_to_end {model} {examples}"


def measure(device: torch.device, model: str, examples: int, forced: Implementation) -> Row:
    """Once to warm up, once undisturbed, once part by part; with the kernels and with plain torch."""
    split, source = _images(model, examples)
    spec = trained.trace(model)
    module = networks.build(model).eval()
    states = [training.initialise(model, seed=seed).state_dict() for seed in (0, 1)]
    began = time.perf_counter()
    placed = split.to(device)
    a, b = ({name: weight.to(device) for name, weight in state.items()} for state in states)
    _wait(device)
    moving = time.perf_counter() - began

    def match() -> Match:
        return fastmatch.match_activations(spec, module, a, b, placed)

    seconds: dict[str, dict[str, float]] = {}
    objectives = {}
    for name, implementation in (("kernels", forced), ("torch", "reference")):
        moments = functools.partial(kernels.Moments, implementation=implementation)
        with patch.object(kernels, "Moments", moments):
            objectives[name] = match().objective_after
            began = time.perf_counter()
            match()
            seconds[name] = {"data to the GPU": moving, "all but the data": time.perf_counter() - began}
        seconds[name] |= _parts(device, match, implementation)
    difference = abs(objectives["kernels"] - objectives["torch"]) / abs(objectives["torch"])
    return {
        "case": title(model, examples),
        "note": source,
        "agrees": difference <= _AGREE,
        "difference": difference,
        "seconds": seconds,
    }


def _images(model: str, examples: int) -> tuple[Split, str]:
    """CIFAR-10 where it is at hand and fits, else noise."""
    shape = networks.input_shape(model)
    if shape == (3, 32, 32) and (Path(os.environ.get("FASTMATCH_DATA", "")) / "cifar10.npz").is_file():
        return fastmatch.load_data("cifar10").train.take(examples), "CIFAR-10"
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, *shape, generator=generator)
    return Split(inputs, torch.zeros(examples, dtype=torch.int64)), "random images"


def _parts(device: torch.device, match: Callable[[], Match], implementation: Implementation) -> dict[str, float]:
    """Seconds of the parts, each waited for, which takes longer than all of them undisturbed."""
    parts = dict.fromkeys(("forward passes", "moments", "assignment"), 0.0)

    class Moments(kernels.Moments):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options | {"implementation": implementation})

        update = _timed(device, parts, "moments", kernels.Moments.update)
        pearson = _timed(device, parts, "moments", kernels.Moments.pearson)

    forward = _timed(device, parts, "forward passes", GraphRunner.activations)
    solve = _timed(device, parts, "assignment", assignment.solve_batch)
    with ExitStack() as stack:
        stack.enter_context(patch.object(kernels, "Moments", Moments))
        stack.enter_context(patch.object(GraphRunner, "activations", forward))
        stack.enter_context(patch.object(assignment, "solve_batch", solve))
        began = time.perf_counter()
        match()
        total = time.perf_counter() - began
    return parts | {"rest": total - sum(parts.values()), "all parts, waited for": total}


def _timed(
    device: torch.device, parts: dict[str, float], name: str, function: Callable[..., Any]
) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        with _stopwatch(device, parts, name):
            return function(*arguments, **options)

    return run


@contextmanager
def _stopwatch(device: torch.device, parts: dict[str, float], name: str) -> Iterator[None]:
    _wait(device)
    began = time.perf_counter()
    yield
    _wait(device)
    parts[name] += time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def lines(row: Row) -> list[Row]:
    """The table: one line with the kernels and one with plain torch."""
    return [{"case": row["case"], "with": name, "data": row["note"], **parts} for name, parts in row["seconds"].items()]
