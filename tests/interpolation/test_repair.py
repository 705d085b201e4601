"""REPAIR: the plain loop in float64 agrees, the moments are those asked for, and barriers fall."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastmatch import Permutation, Split, barrier, evaluate, trace, training, triangle
from fastmatch.errors import DataError, ModelError, OptionError
from fastmatch.interpolation.evaluator import Evaluator
from fastmatch.interpolation.layers import NORM
from fastmatch.interpolation.lowered import Lowered
from fastmatch.interpolation.reference import evaluate_plainly
from fastmatch.interpolation.repair import EPSILON, Repair
from fastmatch.symmetry import GraphRunner, export_graph
from fastmatch.symmetry.graph import without_fused_layers
from tests.interpolation.test_reference import MODELS, ROWS, Transformer, trained
from tests.interpolation.unusual import Branch
from tests.problems import build, example

IMAGES = "in_channels=1, size=8"
MLP = "mlp(64, 24, 20, 10)"
VGG = f"vgg11(width=4, norm=batch, {IMAGES})"
SMALL = [MLP, f"vgg11(width=4, norm=layer, {IMAGES})", VGG, f"resnet20(width=1, norm=none, {IMAGES})", "transformer"]


class Attention(nn.Module):
    """Self-attention of ``nn.MultiheadAttention`` whose projections are modules that run one after the other."""

    batch_first = True

    def __init__(self, given):
        super().__init__()
        self.heads = given.num_heads
        self.in_proj = nn.Linear(given.embed_dim, 3 * given.embed_dim)
        self.out_proj = nn.Linear(given.embed_dim, given.embed_dim)

    def forward(self, values, *others, **options):
        parts = self.in_proj(values).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)), None


def plain(module, states):
    """The same networks with every linear layer a module; all but the transformer are that already."""
    if not isinstance(module, Transformer):
        return module, states
    other = Transformer()
    for layer in other.encoder.layers:
        layer.self_attn = Attention(layer.self_attn)
    return other, [{name.replace("in_proj_", "in_proj."): value for name, value in s.items()} for s in states]


@functools.cache
def expected(model, digits):
    module, states = plain(*trained(model, digits))
    statistics = digits.train.take(100)
    with without_fused_layers():
        return evaluate_plainly(module, states, ROWS, digits.test, statistics=statistics, repair=True)


@pytest.mark.parametrize("precision", ["highest", "fast"])
@pytest.mark.parametrize("model", [*MODELS, "transformer"])
def test_the_plain_loop_agrees(model, precision, digits):
    losses, errors = expected(model, digits)
    module, states = trained(model, digits)
    found = evaluate(
        module, states, ROWS, digits.test, bn="repair", statistics=digits.train.take(100), precision=precision
    )
    assert found.strategy.name == "lowered"
    close = 1e-6 if found.precision == "highest" else 1e-3
    assert (found.errors == errors).all()
    np.testing.assert_allclose(found.loss, losses.mean(1), rtol=close, atol=close)


def test_the_plain_transformer_is_the_same_network(digits):
    module, states = trained("transformer", digits)
    other, renamed = plain(module, states)
    with without_fused_layers():
        pair = [evaluate(m, s, ROWS, digits.test.take(50)).losses for m, s in ((module, states), (other, renamed))]
    np.testing.assert_allclose(*pair, rtol=1e-5, atol=1e-6)


def repaired(model, digits):
    """A graph with corrections, the networks extended for it, and the examples that gave their statistics."""
    module, states = trained(model, digits)
    repair, data = Repair(export_graph(module.eval(), (digits.train.inputs[:2],))), digits.train.take(600)
    lowered, batches = Lowered(repair.graph), data.inputs.split(100)
    extended = [repair.extended(state, lambda state: lowered.settle(state, batches)) for state in states]
    return module, states, repair, extended, data


@pytest.mark.parametrize("model", SMALL)
def test_corrections_change_nothing_in_a_network_alone(model, digits):
    module, states, repair, extended, data = repaired(model, digits)
    lowered = Lowered(repair.graph)
    for state, more in zip(states, extended, strict=True):
        assert all(more[name] is state[name] for name in state)
        lowered.load(more)
        with torch.no_grad():
            own = torch.func.functional_call(module, state, (data.inputs,))
        torch.testing.assert_close(lowered.logits(data.inputs), own, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", SMALL)
def test_a_row_of_one_network_gives_its_losses(model, digits):
    module, states = trained(model, digits)
    reset, repair = (
        evaluate(module, states, np.eye(3), digits.test, bn=bn, statistics=digits.train) for bn in ("reset", "repair")
    )
    np.testing.assert_allclose(repair.loss, reset.loss, rtol=1e-5)


@pytest.mark.parametrize("model", [MLP, f"resnet20(width=1, norm=none, {IMAGES})", "transformer"])
def test_half_way_every_unit_has_the_mean_of_the_means_and_of_the_standard_deviations(model, digits):
    module, states, repair, extended, data = repaired(model, digits)
    norms = [node for node in repair.graph.module.graph.nodes if node.target == NORM]
    before = [node.args[0].name for node in norms]
    after = [next(iter(node.users)).name for node in norms]
    assert len(norms) == {"transformer": 9, MLP: 2}.get(model, 21)
    evaluator = Evaluator(module, {"test": digits.test}, data, bn="repair")
    with evaluator.combinations(states, 1) as combinations:
        combinations.load(np.array([0.5, 0.5, 0.0]))
        half = GraphRunner(repair.graph, after).activations(evaluator._setup.runner._state, (data.inputs,))
    collapsed = {name: 0.5 * extended[0][name] + 0.5 * extended[1][name] for name in extended[0]}
    off = GraphRunner(repair.graph, after).activations(collapsed, (data.inputs,))
    ends = [GraphRunner(repair.graph, before).activations(state, (data.inputs,)) for state in extended[:2]]
    differ = 0.0
    for given, corrected in zip(before, after, strict=True):
        means, deviations = zip(*(moments(end[given]) for end in ends), strict=True)
        mean, deviation = moments(half[corrected])
        wanted = (deviations[0] + deviations[1]) / 2
        torch.testing.assert_close(deviation, wanted, rtol=1e-3, atol=EPSILON**0.5)
        assert ((mean - (means[0] + means[1]) / 2).abs() <= 1e-4 * wanted + 1e-5).all()
        differ = max(differ, float((moments(off[corrected])[1] / wanted - 1).abs().max()))
    assert differ > 0.3  # what is corrected was far off


def moments(values):
    """Mean and standard deviation of each unit, over axes that are not that of axis 1 (a tensor as BatchNorm takes)."""
    rows = values.movedim(1, -1).flatten(0, -2)
    return rows.mean(0), rows.std(0)


@functools.cache
def pair(digits):
    """A narrow network that was trained, and its permuted copy."""
    module = build("mlp(64, 48, 48, 10)")
    training.train(module, digits, training.Recipe(epochs=30, batch_size=64))
    first = module.state_dict()
    return module, first, Permutation.random(trace(module, example(MLP)), seed=1).apply(first)


def test_a_permuted_pair_without_norm_has_a_lower_barrier_when_repaired(digits):
    module, first, second = pair(digits)
    kept, repaired = (barrier(module, first, second, digits, alphas=5, bn=bn) for bn in ("keep", "repair"))
    curves = [result.curves["unaligned"]["test"] for result in (kept, repaired)]
    assert curves[0].evaluation.loss[0] < 0.3
    assert curves[1].error.linear < 0.9 * curves[0].error.linear
    assert curves[1].loss.linear < 0.7 * curves[0].loss.linear
    np.testing.assert_allclose(curves[1].evaluation.loss[[0, -1]], curves[0].evaluation.loss[[0, -1]], rtol=1e-5)


def test_a_triangle_is_repaired_as_its_edge(digits):
    module, first, second = pair(digits)
    found = triangle(module, [first, second, first], digits, grid=3, bn="repair").surfaces["test"].edges["ab"]
    line = barrier(module, first, second, digits, alphas=3, bn="repair").curves["unaligned"]["test"]
    np.testing.assert_allclose(found.evaluation.losses, line.evaluation.losses, rtol=1e-4, atol=1e-4)


def dead(state, units, change):
    """The same network with other weights into some units of its first layer."""
    changed = {name: tensor.clone() for name, tensor in state.items()}
    for name in ("linear1.weight", "linear1.bias"):
        changed[name][units] = change(changed[name][units])
    return changed


@pytest.mark.parametrize("kind", ["in both", "in one", "half way"])
def test_dead_units_give_neither_nan_nor_noise(kind, digits):
    module, first, second = pair(digits)
    units = torch.arange(8)
    if kind == "half way":  # opposite weights, and a mean beside which rounding errors are far from 0
        other = dead(first, units, lambda values: 3 - values)
        networks = [dead(first, units, lambda values: 3 + values), other]
    else:
        networks = [dead(first, units, torch.zeros_like), second]
        networks[1] = dead(second, units, torch.zeros_like) if kind == "in both" else second
    statistics, rows = digits.train.take(500), np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8], [0.0, 1.0]])
    found = evaluate(module, networks, rows, digits.test, bn="repair", statistics=statistics)
    losses, errors = evaluate_plainly(module, networks, rows, digits.test, statistics=statistics, repair=True)
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(found.losses, losses, rtol=1e-3, atol=1e-4)
    assert (found.errors == errors).all()


@pytest.mark.parametrize("model", [MLP, "transformer"])
def test_outputs_of_the_first_layer_are_shared(model, digits, monkeypatch):
    module, states = trained(model, digits)
    given = []
    logits = Lowered.logits
    monkeypatch.setattr(Lowered, "logits", lambda self, x, first=None: given.append(first) or logits(self, x, first))
    options = {"bn": "repair", "statistics": digits.train.take(500)}
    shared = evaluate(module, states, ROWS, digits.test, **options)
    assert given[-1] is not None
    monkeypatch.setattr(Lowered, "first_size", lambda self, network: 0)
    alone = evaluate(module, states, ROWS, digits.test, **options)
    assert given[-1] is None
    np.testing.assert_allclose(shared.losses, alone.losses, rtol=1e-4, atol=1e-5)


class Odd(nn.Module):
    """Layers of other kinds: on sequences, with computed weights, of two branches that meet after the last ones."""

    def __init__(self):
        super().__init__()
        self.sequence = nn.Conv1d(8, 6, 3)
        self.computed = nn.utils.parametrizations.weight_norm(nn.Linear(36, 12))
        self.shared = nn.Linear(12, 12)
        self.branches = nn.ModuleList([nn.Linear(12, 10), nn.Linear(12, 10)])

    def forward(self, images):
        values = self.computed(F.relu(self.sequence(images.flatten(1).view(-1, 8, 8))).flatten(1))
        values = self.shared(F.relu(self.shared(F.relu(values))))
        return self.branches[0](values) + self.branches[1](values.tanh())


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (build("mlp(64, 10)"), []),
        (build("mlp(64, 24, 20, 10, norm=batch)"), []),
        (build("mlp(64, 24, 20, 10, norm=layer)"), ["linear", "linear_1"]),
        (build(f"resnet20(width=1, norm=batch, {IMAGES})"), []),
        (build(VGG), ["linear", "linear_1"]),
        (Odd(), ["conv", "linear_1", "linear_2"]),
    ],
)
def test_layers_are_corrected_but_the_last_and_those_that_a_batch_norm_reads(module, names):
    repair = Repair(export_graph(module.eval(), (torch.randn(2, 1, 8, 8),)))
    found = [name.split(".")[2] for name in repair.statistics[::2]]
    assert [name.replace("onvolution", "onv") for name in found] == names


def test_layers_of_other_kinds_are_corrected(digits):
    """The graph is that of the module, and half way the moments are not those of weights alone."""
    module, states = Odd(), [{name: 4 * tensor for name, tensor in Odd().state_dict().items()} for _ in range(2)]
    rows = np.array([[1.0, 0.0], [0.5, 0.5]])
    kept, repaired = (evaluate(module, states, rows, digits.test, bn=bn).loss for bn in ("keep", "repair"))
    assert repaired[0] == pytest.approx(kept[0], rel=1e-5)
    assert abs(repaired[1] / kept[1] - 1) > 0.01


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_types_are_repaired_as_they_are(dtype, digits):
    module, states = trained(MLP, digits)
    rounded = [{name: tensor.to(dtype) for name, tensor in state.items()} for state in states]
    wide = [{name: tensor.double() for name, tensor in state.items()} for state in rounded]
    pair = [evaluate(module, s, ROWS, digits.test.take(50), bn="repair").losses for s in (rounded, wide)]
    np.testing.assert_allclose(*pair, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_repaired_is_refused(digits):
    module, state, data = build(MLP), build(MLP).state_dict(), digits.test.take(20)
    with pytest.raises(OptionError, match="bn repair needs a lowered network; leave strategy functional out"):
        evaluate(module, [state], [[1.0]], data, bn="repair", strategy="functional")
    with pytest.raises(OptionError, match=r"cannot follow Branch: [^;]*\); use bn reset or keep"):
        evaluate(Branch(), [Branch().state_dict()], [[1.0]], data, bn="repair")
    with pytest.raises(ModelError, match="network 1 does not fit the module"):
        evaluate(module, [state, {**state, "more": torch.ones(1)}], [[1.0, 0.0]], data, bn="repair")
    with pytest.raises(DataError, match="at least two examples"):
        evaluate(module, [state], [[1.0]], data, bn="repair", statistics=data.take(1))
    with pytest.raises(DataError, match="does not take examples of shape"):
        evaluate(module, [state], [[1.0]], data, bn="repair", statistics=Split(torch.ones(9, 63), data.labels[:9]))


def test_the_evaluator_repairs_other_networks_in_a_later_call(digits):
    module, states = trained(MLP, digits)
    evaluator = Evaluator(module, {"test": digits.test}, digits.train, bn="repair")
    rows, half = states[:2], np.array([[0.5, 0.5]])
    evaluator.evaluate(rows, half)
    later = evaluator.evaluate(states[1:], half)["test"]
    fresh = evaluate(module, states[1:], half, digits.test, bn="repair", statistics=digits.train)
    assert np.array_equal(later.losses, fresh.losses)
