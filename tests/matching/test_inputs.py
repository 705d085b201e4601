"""What checkpoints and data can be: every method matches them, or refuses them in one line."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import METHODS, Match, Pair, Split, match, trace
from fastmatch.errors import FastmatchError
from fastmatch.matching.midpoint import hold_back
from fastmatch.symmetry import graph

EXAMPLES = 30


class Buffers(nn.Module):
    """Units whose weights are buffers alone."""

    def __init__(self):
        super().__init__()
        self.register_buffer("first", torch.randn(6, 4))
        self.register_buffer("second", torch.randn(4, 4))
        self.last = nn.Linear(4, 3)

    def forward(self, inputs):
        return self.last(torch.relu(torch.relu(inputs @ self.first) @ self.second))


@pytest.fixture(autouse=True, scope="module")
def exports():
    """Every network is exported once for all tests: it is most of the time that they would take."""
    known, original = {}, graph.export

    def export(module, inputs, **options):
        key = (module, *((tensor.shape, tensor.dtype) for tensor in inputs))

        def run_decompositions(table):
            if key not in known:
                known[key] = original(module, inputs, **options).run_decompositions(table)
            found = known[key]
            inside = copy.deepcopy(found.graph_module)  # some methods change theirs
            return SimpleNamespace(
                graph_module=inside, graph_signature=found.graph_signature, constants=found.constants
            )

        return SimpleNamespace(run_decompositions=run_decompositions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "export", export)
        yield


def _mlp(*widths):
    layers = [(nn.Linear(inputs, outputs), nn.ReLU()) for inputs, outputs in itertools.pairwise(widths)]
    return nn.Sequential(*itertools.chain(*layers))[:-1]


@functools.cache
def _pair(kind, *widths):
    torch.manual_seed(0)
    module, *others = (kind(*widths).eval() for _ in range(3))
    states = [other.state_dict() for other in others]
    data = Split(torch.randn(EXAMPLES, 6), torch.randint(3, (EXAMPLES,)))
    return Pair(trace(module, (data.inputs[:2],)), *states, module, data)


def _plain():
    return _pair(_mlp, 6, 4, 3)


def _cast(state, dtype):
    return {name: tensor.to(dtype) for name, tensor in state.items()}


def _with_types(first, second):
    pair = _plain()
    return dataclasses.replace(pair, a=_cast(pair.a, first), b=_cast(pair.b, second))


def _with_gradients():
    pair = _plain()
    a, b = ({name: tensor.clone().requires_grad_() for name, tensor in state.items()} for state in (pair.a, pair.b))
    return dataclasses.replace(pair, a=a, b=b)


def _with_a_label(label):
    """A label that only an example to learn from has."""
    pair = _plain()
    learned = int(hold_back(Split(pair.data.inputs, torch.arange(EXAMPLES))).fit.labels[0])
    labels = pair.data.labels.clone()
    labels[learned] = label
    return dataclasses.replace(pair, data=Split(pair.data.inputs, labels))


def _with_nan_in_the_head():
    """Not a number where no unit is."""
    pair = _plain()
    return dataclasses.replace(pair, b=pair.b | {"2.bias": torch.tensor([0.0, torch.nan, 0.0])})


def _overflowing():
    """Finite networks with an infinity half-way."""
    pair = _plain()
    a, b = ({name: tensor * 1e30 for name, tensor in state.items()} for state in (pair.a, pair.b))
    return dataclasses.replace(pair, a=a, b=b)


MATCHED = {
    "bfloat16": lambda: _with_types(torch.bfloat16, torch.bfloat16),
    "float32 and float64": lambda: _with_types(torch.float32, torch.float64),
    "gradients": _with_gradients,
    "no groups": lambda: _pair(_mlp, 6, 3),
    "one unit": lambda: _pair(_mlp, 6, 1, 3),
}
REFUSED = {
    "a negative label": lambda: _with_a_label(-1),
    "a label beyond the classes": lambda: _with_a_label(3),
    "NaN in the head": _with_nan_in_the_head,
}
EITHER = {"overflow": _overflowing, "buffers": lambda: _pair(Buffers)}
# One of those that share their code, and what auto tries by itself.
DIFFERENT = [
    name for name in METHODS if name not in ("auto", "functional_greedy", "sinkhorn_random", "annealing_barrier")
]
LABELS = [name for name, method in METHODS.items() if method.needs == "labels"]


def _run(method, pair):
    return match(pair, method, **({"steps": 3} if "steps" in METHODS[method].options else {}))


def _outcome(method, pair):
    """The match, or the error if it says what it has to in one line; anything else is raised."""
    try:
        return _run(method, pair)
    except FastmatchError as error:
        found = error
    assert str(found)
    assert "\n" not in str(found)
    return found


def _check(found, pair):
    """The permutation leaves the function of b as it was."""
    assert isinstance(found, Match)
    moved = found.permutation.apply(pair.b)
    outputs = [
        torch.func.functional_call(pair.module, _cast(state, torch.float64), (pair.data.inputs.double(),))
        for state in (pair.b, moved)
    ]
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", DIFFERENT)
@pytest.mark.parametrize("given", MATCHED)
def test_checkpoints_are_taken_as_they_are(method, given):
    pair = MATCHED[given]()
    _check(_run(method, pair), pair)


@pytest.mark.parametrize("method", DIFFERENT)
@pytest.mark.parametrize("given", REFUSED)
def test_what_is_wrong_is_said_in_one_line(method, given):
    pair = REFUSED[given]()
    found = _outcome(method, pair)
    if method in LABELS:
        assert isinstance(found, FastmatchError)
    elif isinstance(found, Match) and "head" not in given:
        _check(found, pair)


@pytest.mark.parametrize("method", DIFFERENT)
@pytest.mark.parametrize("given", EITHER)
def test_nothing_else_is_raised(method, given):
    pair = EITHER[given]()
    found = _outcome(method, pair)
    if isinstance(found, Match) and given != "overflow":
        _check(found, pair)
    elif isinstance(found, Match):
        assert all(
            np.array_equal(np.sort(index), np.arange(len(index))) for index in found.permutation.indices.values()
        )


def test_half_precision_bounds_no_search_that_is_exact():
    """The lowest barrier of rounded networks is that of the same networks in float64."""
    pair = _with_types(torch.bfloat16, torch.bfloat16)
    a, b = (_cast({name: 8 * tensor for name, tensor in state.items()}, torch.bfloat16) for state in (pair.a, pair.b))
    rounded = match(dataclasses.replace(pair, a=a, b=b), "exhaustive")
    wide = match(dataclasses.replace(pair, a=_cast(a, torch.float64), b=_cast(b, torch.float64)), "exhaustive")
    assert rounded.objective_after == pytest.approx(wide.objective_after, rel=1e-5)
