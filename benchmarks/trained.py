"""Pairs of networks that the benchmarks train, kept in a folder so that this happens once."""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import torch
from torch import Tensor, nn

import fastmatch
from benchmarks.timing import cores
from fastmatch import checkpoints, networks, training

CACHE = Path(__file__).resolve().parents[1] / ".benchmarks" / "networks"
State = dict[str, Tensor]
_CONVOLUTIONAL = 6000  # Training examples of convolutional networks, which take minutes over more.


def data_name() -> str:
    """Return ``mnist`` where its file is at hand, else the digits that come with scikit-learn."""
    return "mnist" if (Path(os.environ.get("FASTMATCH_DATA", "")) / "mnist.npz").is_file() else "digits"


@functools.cache
def data() -> fastmatch.DataSet:
    return fastmatch.load_data(data_name())


def mlp(*hidden: int) -> str:
    """Model string of a network for the data with these hidden layers."""
    return f"mlp({data().train.inputs[0].numel()}, {', '.join(map(str, hidden))}, {data().classes})"


def pair(model: str) -> tuple[State, State]:
    """Two networks that differ in their initial weights and in the order of the data."""
    first, second = (_trained(model, seed) for seed in (0, 1))
    return first, second


def _trained(model: str, seed: int) -> State:
    name = re.sub(r"\W+", "-", f"{data_name()} {model} {seed}")
    path = CACHE / f"{name}.safetensors"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        checkpoints.write(path, _train(model, seed).state_dict())
    return checkpoints.read(path).state_dict


def _train(model: str, seed: int) -> nn.Module:
    module = training.initialise(model, seed=seed)
    large = sum(weight.numel() for weight in module.parameters()) > 10_000_000
    given = data().take(_CONVOLUTIONAL) if any(weight.dim() > 2 for weight in module.parameters()) else data()
    with cores(len(os.sched_getaffinity(0))):
        training.train(module, given, training.Recipe(epochs=1 if large else 3, order_seed=seed))
    return module


def trace(model: str) -> fastmatch.PermutationSpec:
    module = networks.build(model).eval()
    return fastmatch.trace(module, (torch.randn(2, *networks.input_shape(model)),))
