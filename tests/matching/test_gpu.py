"""Matching with the GPU kernels: on the GPU where there is one, else interpreted."""

from __future__ import annotations

import functools
import importlib

import pytest

from fastmatch import Permutation, kernels, match_activations, match_weights, trace
from tests.problems import build, example

MODELS = ["mlp(64, 24, 20, 10, norm=layer)", "vgg11(width=2, norm=batch, in_channels=1, size=8)"]


@pytest.fixture
def launches(monkeypatch):
    """Have every sum computed by the GPU kernels, and list the kernels launched."""
    found = []
    for name in ("gram", "gram_update", "Moments"):
        monkeypatch.setattr(kernels, name, functools.partial(getattr(kernels, name), implementation="gpu"))
    for name in ("gram", "moments"):
        module = importlib.import_module(f"fastmatch.kernels.{name}.gpu")
        launch = functools.partial(_launch, found, name, module.launch)
        monkeypatch.setattr(module, "launch", launch)
    return found


def _launch(found, name, launch, *arguments):
    found.append(name)
    launch(*arguments)


@pytest.fixture(params=MODELS)
def planted(request, device):
    module = build(request.param).to(device)
    spec = trace(build(request.param), example(request.param))
    planted = Permutation.random(spec, 7)
    return module, spec, module.state_dict(), planted.apply(module.state_dict()), planted.invert()


def test_weights_are_matched_as_by_the_reference(planted, launches):
    _, spec, a, b, expected = planted
    match = match_weights(spec, a, b, restarts=2)
    assert match.permutation == expected
    assert launches.count("gram") >= len(spec.groups)


def test_activations_are_matched_as_by_the_reference(planted, launches, digits, device):
    module, spec, a, b, expected = planted
    match = match_activations(spec, module, a, b, digits.train.take(60).to(device), similarity="pearson")
    assert match.permutation == expected
    assert launches.count("moments") == len(spec.groups)
