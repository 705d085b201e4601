"""Pairs of networks to match, by name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks import trained
from benchmarks.trained import State
from fastmatch import Permutation, PermutationSpec, training


class Pair(NamedTuple):
    """Two networks to match, and what keeps them apart."""

    make: Callable[[], tuple[PermutationSpec, State, State]]
    note: str


def trained_pair(*hidden: int) -> tuple[PermutationSpec, State, State]:
    model = trained.mlp(*hidden)
    return trained.trace(model), *trained.pair(model)


def _planted_pair(model: str, noise: float) -> tuple[PermutationSpec, State, State]:
    """Fresh weights, and the same with their units in random order and ``noise`` standard deviations added."""
    spec = trained.trace(model)
    a = training.initialise(model, seed=0).state_dict()
    generator = torch.Generator().manual_seed(1)
    permuted = Permutation.random(spec, seed=0).apply(a)
    b = {
        name: weight + noise * weight.std() * torch.randn(weight.shape, generator=generator)
        for name, weight in permuted.items()
    }
    return spec, a, b


def _planted_case(model: str, noise: float) -> Pair:
    note = f"{model}: planted permutation, noise of {noise:g} standard deviations of each weight tensor"
    return Pair(functools.partial(_planted_pair, model, noise), note)


def _trained_case(*hidden: int) -> Pair:
    return Pair(functools.partial(trained_pair, *hidden), "two trained networks")


PAIRS = {
    "MLP 512x3": _trained_case(512, 512, 512),
    "MLP 2048x2": _trained_case(2048, 2048),
    **{f"ResNet-20 x{width}": _planted_case(f"resnet20(width={width})", 3.0) for width in (1, 4, 8)},
    "VGG-16": _planted_case("vgg16()", 2.0),
}
