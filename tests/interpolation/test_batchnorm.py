from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastmatch import Permutation, Split, evaluate, networks, trace
from fastmatch.errors import DataError
from fastmatch.interpolation import combinations, memory, strategies
from fastmatch.interpolation.batchnorm import Moments, moments, pool, reset_statistics, running_statistics
from fastmatch.interpolation.evaluator import Evaluator
from fastmatch.interpolation.lowered import Lowered
from fastmatch.interpolation.reference import _loader, _reset
from fastmatch.symmetry import export_graph
from fastmatch.training import Recipe, initialise, train

MODELS = ["mlp(64, 16, 12, 10, norm=batch)", "resnet20(norm=batch, in_channels=1, size=8)"]
TRAINED = "mlp(64, 32, 32, 10, norm=batch)"


def examples(model, count=270):
    return Split(3 * torch.randn(count, *networks.input_shape(model)) + 1, torch.zeros(count, dtype=torch.long))


def as_module(module, data):
    return module


def as_program(module, data):
    batch = {0: torch.export.Dim.DYNAMIC}
    return torch.export.export(module, (data.inputs[:2],), dynamic_shapes=(batch,), strict=False).module()


def as_decomposed_program(module, data):
    batch = {0: torch.export.Dim.DYNAMIC}
    program = torch.export.export(module, (data.inputs[:2],), dynamic_shapes=(batch,), strict=False)
    return program.run_decompositions().module()


def plain_reset(module, data):
    """The running statistics by the plain reference, in float64."""
    module = module.double()
    with torch.no_grad():
        _reset(module, _loader(data, torch.float64, 100))
    return {name: tensor.float() for name, tensor in module.state_dict().items() if "running" in name}


@pytest.mark.parametrize("form", [as_module, as_program, as_decomposed_program, "lowered"])
@pytest.mark.parametrize("model", MODELS)
def test_reset_statistics_are_those_of_the_network_itself(model, form):
    module, data = networks.build(model).eval(), examples(model)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    for name in state:
        if "running" in name:
            state[name].fill_(123.0)  # what stood there before must not matter
    if form == "lowered":
        Lowered(export_graph(module, (data.inputs[:2],))).settle(state, data.inputs.tensor_split(7))
    else:
        reset_statistics(form(module, data), state, data.inputs)
    expected = plain_reset(module, data)
    assert len(expected) >= 4
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_reset_network_normalises_to_mean_zero_and_variance_one():
    module, data = networks.build(MODELS[0]).eval(), examples(MODELS[0])
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    output = reset_statistics(module, state, data.inputs)
    module.load_state_dict(state)
    seen = []
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm1d)]
    for norm in norms:
        norm.register_forward_hook(lambda norm, _, out: seen.append((out - norm.bias) / norm.weight))
    torch.testing.assert_close(module(data.inputs), output)
    for values in seen:
        torch.testing.assert_close(values.mean(0), torch.zeros_like(values[0]), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(0), torch.ones_like(values[0]), atol=1e-3, rtol=0)
    assert len(seen) == 2


def test_moments_of_parts_are_those_of_the_whole_far_from_zero():
    values = torch.randn(1000, 6, 5, 3) * torch.arange(1.0, 7)[:, None, None] + 1e3
    parts = [moments(part) for part in values.split([2, 300, 698])]
    flat = values.double().transpose(0, 1).flatten(1)
    found = pool(parts)
    torch.testing.assert_close(found.mean, flat.mean(1), rtol=1e-7, atol=0)
    torch.testing.assert_close(found.scatter / (found.size - 1), flat.var(1), rtol=1e-4, atol=0)
    torch.testing.assert_close(pool(parts[:1]), Moments(30, parts[0].mean, parts[0].scatter))


@pytest.mark.parametrize("model", MODELS)
def test_reset_changes_running_statistics_alone(model):
    module, data = networks.build(model).eval(), examples(model, 40)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = {name: tensor.clone() for name, tensor in before.items()}
    reset_statistics(module, state, data.inputs)
    changed = {name for name in state if not torch.equal(state[name], before[name])}
    assert changed == {name for name in state if "running" in name}
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())


def test_dropout_stays_off_while_statistics_are_reset():
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.9), nn.BatchNorm1d(8)).eval()
    data = Split(torch.randn(50, 4), torch.zeros(50, dtype=torch.long))
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    reset_statistics(module, state, data.inputs)
    torch.testing.assert_close(state["2.running_mean"], module[0](data.inputs).mean(0).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        *((model, True) for model in MODELS),
        ("mlp(64, 16, 10)", False),
        ("mlp(64, 16, 10, norm=layer)", False),
        ("resnet20(norm=layer, in_channels=1, size=8)", False),
    ],
)
@pytest.mark.parametrize("form", [as_module, as_program, as_decomposed_program])
def test_networks_with_running_statistics_are_told_from_others(model, expected, form):
    module, data = networks.build(model).eval(), examples(model, 4)
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    found = running_statistics(form(module, data), state, data.inputs)
    assert sorted(found) == (sorted(name for name in state if "running" in name) if expected else [])
    assert all(torch.equal(state[name], tensor) for name, tensor in module.state_dict().items())


def test_batch_norm_without_running_statistics_has_nothing_to_reset():
    module = nn.BatchNorm1d(4, track_running_stats=False).eval()
    data = Split(torch.randn(6, 4), torch.zeros(6, dtype=torch.long))
    assert running_statistics(module, module.state_dict(), data.inputs) == []


@pytest.mark.parametrize("model", MODELS)
def test_evaluate_resets_in_every_row_over_the_whole_split(model):
    data = examples(model, 300)
    given = [networks.build(model).state_dict() for _ in range(2)]
    rows = np.array([[1.0, 0.0], [0.4, 0.6]])
    result = evaluate(networks.build(model), given, rows, data)
    for number, row in enumerate(rows.tolist()):
        module = networks.build(model).eval()
        module.load_state_dict({name: row[0] * given[0][name] + row[1] * given[1][name] for name in given[0]})
        plain_reset(module, data)
        with torch.no_grad():
            logits = module.eval()(data.inputs.double())
        expected = F.cross_entropy(logits, data.labels, reduction="none").numpy()
        np.testing.assert_allclose(result.losses[number], expected, rtol=1e-4, atol=1e-5)


def test_the_order_of_the_examples_does_not_decide_the_statistics():
    """Batches of data sorted by class would each have another mean."""
    model = MODELS[0]
    inputs = torch.randn(1000, 64) + 20 * torch.arange(4.0).repeat_interleave(250)[:, None]
    sorted_data = Split(inputs, torch.zeros(len(inputs), dtype=torch.long))
    mixed = sorted_data.shuffle(seed=5)
    module = networks.build(model)
    losses = [evaluate(module, [module.state_dict()], np.ones((1, 1)), data).loss[0] for data in (sorted_data, mixed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("strategy", ["functional", "lowered"])
def test_examples_of_the_statistics_are_not_run_again(strategy, digits, monkeypatch):
    """What settles the statistics has the outputs too: the same as those of an evaluation of its own."""
    module = networks.build(TRAINED)
    given, rows = [networks.build(TRAINED).state_dict() for _ in range(2)], np.array([[0.4, 0.6]])
    settled = Evaluator(module, {"train": digits.train}, digits.train, strategy=strategy)
    copied = Split(digits.train.inputs.clone(), digits.train.labels)
    again = Evaluator(module, {"train": digits.train}, copied, strategy=strategy).evaluate(given, rows)["train"]
    monkeypatch.setattr(combinations, "score", None)
    found = settled.evaluate(given, rows)["train"]
    np.testing.assert_allclose(found.losses, again.losses, rtol=1e-4, atol=1e-5)
    assert (found.errors == again.errors).all()


def test_statistics_of_large_networks_come_from_fewer_examples(digits, monkeypatch):
    seen = []
    monkeypatch.setattr(memory, "_SETTLED", 1 << 10)
    monkeypatch.setattr(strategies, "reset_statistics", lambda *given: seen.append(given) or reset_statistics(*given))
    module = networks.build(TRAINED)
    evaluate(module, [module.state_dict()], np.ones((1, 1)), digits.test, statistics=digits.train)
    assert [len(inputs) for _, _, inputs in seen] == [250]


@pytest.fixture(scope="module")
def trained(digits):
    module = initialise(TRAINED, "default", 0)
    train(module, digits, Recipe(epochs=6, batch_size=64, lr=1e-2))
    return module


def test_a_network_reset_on_its_training_data_keeps_its_loss(trained, digits):
    ends = {
        bn: evaluate(trained, [trained.state_dict()], np.ones((1, 1)), digits.train, bn=bn) for bn in ("reset", "keep")
    }
    assert ends["keep"].loss[0] < 0.3
    assert ends["reset"].loss[0] == pytest.approx(ends["keep"].loss[0], abs=0.03)
    assert ends["reset"].error[0] == pytest.approx(ends["keep"].error[0], abs=0.01)
    assert ends["reset"].loss[0] != ends["keep"].loss[0]


def test_between_two_permuted_copies_reset_undoes_part_of_the_collapse(trained, digits):
    spec = trace(trained, (digits.train.inputs[:2],))
    copies = [trained.state_dict(), Permutation.random(spec, seed=1).apply(trained.state_dict())]
    half = np.array([[0.5, 0.5]])
    reset, keep = (
        evaluate(trained, copies, half, digits.test, bn=bn, statistics=digits.train).loss[0] for bn in ("reset", "keep")
    )
    assert reset < 0.9 * keep


def test_one_example_gives_no_statistics():
    model = MODELS[0]
    module, data = networks.build(model), examples(model, 1)
    with pytest.raises(DataError, match="at least two examples"):
        evaluate(module, [module.state_dict()], np.ones((1, 1)), data)
    assert np.isfinite(evaluate(module, [module.state_dict()], np.ones((1, 1)), data, bn="keep").loss).all()


@pytest.mark.parametrize("strategy", ["functional", "lowered"])
def test_states_are_the_networks_that_are_evaluated(strategy):
    module = networks.build(MODELS[0])
    given, data = [initialise(MODELS[0], "default", seed).state_dict() for seed in (0, 1)], examples(MODELS[0])
    rows = np.array([[1.0, 0.0], [0.4, 0.6]])
    evaluator = Evaluator(module, {"test": data}, data, strategy=strategy)
    expected = evaluator.evaluate(given, rows)["test"]
    copies = [{name: tensor.clone() for name, tensor in state.items()} for state in given]
    for state, losses in zip(evaluator.states(given, rows), expected.losses, strict=True):
        assert state.keys() == given[0].keys()
        found = evaluate(module, [state], np.ones((1, 1)), data, bn="keep", strategy=strategy)
        np.testing.assert_allclose(found.losses[0], losses, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(given[n][name], copies[n][name]) for n in range(2) for name in given[n])
