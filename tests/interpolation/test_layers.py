"""What is done with a layer: found where it is safe, and then the same function."""

from __future__ import annotations

import copy
import functools
from typing import NamedTuple

import pytest
import torch
from torch import nn

from fastmatch.interpolation.lowered import Lowered
from fastmatch.symmetry import export_graph
from tests.interpolation.unusual import Net, conv, pooled

CLOSE = {None: 1e-5, torch.bfloat16: 3e-2, torch.float64: 1e-12}


class Case(NamedTuple):
    """What is computed of the layers a, b, c (convolutions), their norms n, m and the head h, and what is fused."""

    run: object
    norms: int = 0
    sums: int = 0
    relus: int = 0
    in_place: int = 0  # sums and ReLUs that are left


def twice(p, x):
    first = p.a(x)
    return p.h(pooled(first.relu()) + pooled(first))


def relu_twice(p, x):
    first = p.a(x).relu()
    return p.h(pooled((p.b(first) + first).relu()) + pooled(first.square()))


def residual(p, x):
    first = p.a(x).relu()
    return p.h(pooled((p.b(first) + first).relu()))


def residual_first(p, x):
    first = p.a(x).relu()
    return p.h(pooled((first + p.b(first)).relu()))


def sum_twice(p, x):
    total = p.a(x) + p.b(p.a(x))
    return p.h(pooled(total.relu()) - pooled(total))


def later(p, x):
    first = p.a(x)
    second = p.b(first)
    return p.h(pooled(second) + pooled(first + first.relu()))


def norm_twice(p, x):
    first = p.n(p.a(x))
    return p.h(pooled(first.relu()) + pooled(first))


CASES = {
    "relu": Case(lambda p, x: p.h(pooled(p.a(x).relu())), relus=1),
    "norm": Case(lambda p, x: p.h(pooled(p.n(p.a(x)))), norms=1),
    "norm and relu": Case(lambda p, x: p.h(pooled(p.n(p.a(x)).relu())), norms=1, relus=1),
    "relu before norm": Case(lambda p, x: p.h(pooled(p.n(p.a(x).relu()))), relus=1),
    "layer read twice": Case(twice),
    "norm read twice": Case(norm_twice, norms=1),
    "sum with what came before": Case(residual, sums=1, relus=2),
    "sum with what came before, first": Case(residual_first, sums=1, relus=2),
    "sum that is larger": Case(lambda p, x: p.h(pooled((p.c(x) + p.a(x)).relu())), in_place=1),
    "sum of both": Case(lambda p, x: p.h(pooled((p.n(p.a(x)) + p.m(p.b(p.a(x)))).relu())), norms=2, sums=1, relus=1),
    "relu needed after the sum": Case(relu_twice, sums=1, relus=2),
    "sum read twice": Case(sum_twice, sums=1),
    "operand that is needed later": Case(later),
    "scaled sum": Case(lambda p, x: p.h(pooled(torch.add(p.a(x), p.b(p.a(x)), alpha=0.5).relu())), in_place=2),
    "sum of one": Case(lambda p, x: p.h(pooled((p.a(x) + 0.5).relu())), in_place=2),
    "sum with rows": Case(lambda p, x: p.h(pooled((p.a(x) + p.a(x).mean(3, keepdim=True)).relu())), in_place=2),
    "difference": Case(lambda p, x: p.h(pooled((p.a(x) - p.b(p.a(x))).relu()))),
    "relu of a view": Case(lambda p, x: p.h(p.a(x).flatten(1).relu()[:, :6])),
    "relu of the inputs": Case(lambda p, x: p.h(pooled(p.a(x.relu()) + p.b(p.a(x)))), sums=1),
}


@functools.cache
def exported(name):
    """The network, and its graph, which is made once."""
    module = build(CASES[name].run)
    return module, export_graph(module, (torch.randn(2, 3, 8, 8),))


def build(run):
    torch.manual_seed(0)
    layers = {
        "a": conv(),
        "b": conv(6),
        "c": conv(units=1),
        "n": nn.BatchNorm2d(6),
        "m": nn.BatchNorm2d(6),
        "h": nn.Linear(6, 5),
    }
    module = Net(run, **layers).eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if "running_var" in name else torch.randn(tensor.shape) / 4)
    return module


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", CASES)
def test_lowered_logits_are_those_of_the_module(name, dtype):
    (module, graph), inputs = exported(name), torch.randn(9, 3, 8, 8)
    lowered = Lowered(graph, torch.bfloat16 if dtype == torch.bfloat16 else None)
    if dtype == torch.float64:
        module, inputs = copy.deepcopy(module).double(), inputs.double()
    state = {key: tensor.clone() for key, tensor in module.state_dict().items()}
    given = inputs.clone()
    lowered.load(state)
    with torch.no_grad():
        expected = module(inputs)
    for _ in range(2):  # what is done in place must be memory of its own
        found = lowered.logits(given)
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE[dtype] * float(expected.abs().max()))
    assert torch.equal(given, inputs)
    assert all(torch.equal(tensor, state[key]) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_what_follows_a_layer_is_done_with_it_where_nothing_else_reads_it(name):
    case = CASES[name]
    lowered = Lowered(exported(name)[1])
    layers = lowered._layers.values()
    found = [sum(getattr(layer, part) is not None for layer in layers) for part in ("norm", "add", "relu")]
    left = lowered._in_place - set(lowered._passed)
    assert (*found, len(left)) == case[1:]
