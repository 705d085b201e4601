from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmatch import evaluate
from fastmatch.errors import OptionError
from fastmatch.interpolation import strategies
from fastmatch.interpolation.lowered import Lowered
from fastmatch.symmetry import export_graph
from tests.interpolation.unusual import Branch
from tests.problems import build, example

ROWS = np.array([[1.0, 0.0], [0.3, 0.7], [1.5, -0.5]])
MLP = "mlp(64, 24, 20, 10, norm=batch)"
RESNET = "resnet20(width=1, norm=batch, in_channels=1, size=8)"


def networks(model):
    return [build(model, seed).state_dict() for seed in range(2)]


def lowered(model):
    return Lowered(export_graph(build(model), example(model)))


def test_short_evaluations_are_not_lowered_and_long_ones_are(digits, monkeypatch):
    module, states, data = build(MLP), networks(MLP), digits.test.take(50)
    short = evaluate(module, states, ROWS, data)
    assert short.strategy == ("functional", "the evaluation is short")
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    long = evaluate(module, states, ROWS, data)
    assert long.strategy == ("lowered", "the evaluation is long")
    np.testing.assert_allclose(long.losses, short.losses, rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_exported_runs_as_it_is(digits, monkeypatch):
    module, data = Branch(), digits.test.take(20)
    states = [Branch().state_dict(), Branch().state_dict()]
    with pytest.raises(OptionError, match=r"cannot be lowered .* use strategy functional"):
        evaluate(module, states, ROWS, data, strategy="lowered")
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    found = evaluate(module, states, ROWS, data)
    assert found.strategy.name == "functional"
    assert found.strategy.reason.startswith("it cannot be lowered: torch.export cannot follow Branch")


@pytest.mark.parametrize(
    "wrong", [lambda logits: logits + 1e-3, lambda logits: logits[:, :9], lambda logits: logits * torch.nan]
)
def test_a_graph_that_gives_other_logits_is_not_used(wrong, digits, monkeypatch):
    right = Lowered.logits
    monkeypatch.setattr(Lowered, "logits", lambda self, *given: wrong(right(self, *given)))
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    found = evaluate(build(MLP), networks(MLP), ROWS, digits.test.take(20))
    assert found.strategy.name == "functional"
    assert "its graph" in found.strategy.reason


def test_an_unknown_strategy_is_refused(digits):
    with pytest.raises(OptionError, match="strategy 'fast' is unknown"):
        evaluate(build(MLP), networks(MLP), ROWS, digits.test.take(20), strategy="fast")


def test_a_residual_block_is_two_operations():
    layers = lowered(RESNET)._layers.values()
    assert sum(layer.norm is not None for layer in layers) == 21
    assert sum(layer.relu is not None for layer in layers) == 19
    assert sum(layer.add is not None for layer in layers) == 9


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_what_cannot_be_folded_stays(norm):
    layers = lowered(f"vgg11(width=4, norm={norm}, in_channels=1, size=8)")._layers
    assert all(layer.norm is None for layer in layers.values())
    convolutions = [layer for layer in layers.values() if layer.node.target == torch.ops.aten.convolution.default]
    assert len(convolutions) == 8
    assert all((layer.relu is not None) == (norm == "none") for layer in convolutions)


@pytest.mark.parametrize("memory", [1 << 30, 1 << 16])
def test_the_first_linear_layer_is_computed_once_where_its_outputs_fit(memory, digits, monkeypatch):
    calls = []
    first = Lowered.first_inputs
    monkeypatch.setattr(Lowered, "first_inputs", lambda self, *given: calls.append(1) or first(self, *given))
    module, states = build(MLP), networks(MLP)
    found = evaluate(module, states, ROWS, digits.test, bn="keep", strategy="lowered", memory=memory)
    expected = evaluate(module, states, ROWS, digits.test, bn="keep", strategy="functional")
    np.testing.assert_allclose(found.losses, expected.losses, rtol=1e-4, atol=1e-5)
    assert len(calls) == (2 if memory == 1 << 30 else 0)


def test_convolutions_share_nothing():
    assert lowered(RESNET).first_size(networks(RESNET)[0]) == 0


@pytest.mark.parametrize("model", [MLP, RESNET])
def test_a_network_with_coefficient_zero_has_no_say_even_if_it_is_not_finite(model, digits):
    first, second = networks(model)
    broken = {name: torch.full_like(t, torch.nan) if t.is_floating_point() else t for name, t in second.items()}
    found = evaluate(build(model), [first, broken], [[1.0, 0.0]], digits.test.take(20), strategy="lowered")
    assert np.isfinite(found.losses).all()


def test_float64_networks_are_evaluated_in_float64(digits):
    module = build(RESNET).double()
    states = [{name: t.double() if t.is_floating_point() else t for name, t in s.items()} for s in networks(RESNET)]
    data = digits.test.take(30)
    pair = [evaluate(module, states, ROWS, data, bn="keep", strategy=name).losses for name in ("lowered", "functional")]
    np.testing.assert_allclose(*pair, rtol=1e-11, atol=1e-12)


def test_the_weights_given_are_not_changed(digits):
    states = networks(RESNET)
    before = [{name: t.clone() for name, t in state.items()} for state in states]
    evaluate(build(RESNET), states, ROWS, digits.test.take(20), strategy="lowered")
    assert all(torch.equal(old[name], new[name]) for old, new in zip(before, states, strict=True) for name in old)


def test_without_instructions_for_bfloat16_the_precision_stays(digits, monkeypatch):
    monkeypatch.setattr(strategies, "has_bfloat16", lambda: False)
    data, options = digits.test.take(20), {"strategy": "lowered", "bn": "keep"}
    found = evaluate(build(MLP), networks(MLP), ROWS, data, precision="fast", **options)
    assert found.precision == "highest"
    assert (
        found.strategy.reason
        == "it was asked for; not in precision fast: this processor has no instructions for bfloat16"
    )
    assert np.array_equal(found.losses, evaluate(build(MLP), networks(MLP), ROWS, data, **options).losses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "high"}, "'high' is unknown"),
        ({"precision": "fast", "strategy": "functional"}, "needs a lowered"),
    ],
)
def test_a_precision_that_cannot_run_is_refused(options, message, digits):
    with pytest.raises(OptionError, match=message):
        evaluate(build(MLP), networks(MLP), ROWS, digits.test.take(20), **options)
