from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastmatch import Split, evaluate, networks
from fastmatch.errors import DataError, ModelError, OptionError
from fastmatch.interpolation.evaluation import standard_error
from fastmatch.interpolation.evaluator import Evaluator

CONVOLUTIONAL = "in_channels=1, size=8"
MODELS = [
    "mlp(64, 24, 16, 10)",
    "mlp(64, 24, 16, 10, norm=batch)",
    *(f"resnet20(norm={norm}, {CONVOLUTIONAL})" for norm in ("none", "layer", "batch")),
]
COEFFICIENTS = np.array([[1.0, 0.0], [0.5, 0.5], [0.3, 0.7], [0.0, 1.0], [1.2, -0.2]])
MLP = "mlp(64, 12, 10)"


def states(model, count=2):
    """State dicts of random networks whose norms are not at their initial values."""
    result = []
    for seed in range(count):
        torch.manual_seed(seed)
        state = networks.build(model).state_dict()
        for name, tensor in state.items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.dim() == 1 and tensor.is_floating_point():
                tensor.add_(0.3 * torch.randn(tensor.shape))
        result.append(state)
    return result


def examples(model, count=60):
    generator = torch.Generator().manual_seed(9)
    inputs = torch.randn(count, *networks.input_shape(model), generator=generator)
    return Split(inputs, torch.randint(0, 10, (count,), generator=generator))


def plain(model, given, row, data):
    """Losses and errors of one combination, the slow and obvious way."""
    module = networks.build(model).eval()
    combined = {
        name: sum(c * state[name] for c, state in zip(row, given, strict=True))
        if tensor.is_floating_point()
        else tensor
        for name, tensor in given[0].items()
    }
    module.load_state_dict(combined)
    with torch.no_grad():
        logits = module(data.inputs)
    return F.cross_entropy(logits.double(), data.labels, reduction="none"), logits.argmax(1) != data.labels


@pytest.mark.parametrize("model", MODELS)
def test_every_row_is_the_network_loaded_with_the_combined_weights(model):
    given, data = states(model), examples(model)
    result = evaluate(networks.build(model), given, COEFFICIENTS, data, bn="keep")
    for number, row in enumerate(COEFFICIENTS.tolist()):
        losses, errors = plain(model, given, row, data)
        np.testing.assert_allclose(result.losses[number], losses.numpy(), rtol=1e-5, atol=1e-5)
        assert result.loss[number] == pytest.approx(losses.mean().item(), abs=1e-6)
        assert np.array_equal(result.errors[number], errors.numpy())
        assert result.error[number] == errors.double().mean().item()


def test_more_examples_than_a_batch_stay_in_order():
    model = f"shallow_cnn(width=4, {CONVOLUTIONAL})"
    given, data = states(model, 1), examples(model, 601)
    result = evaluate(networks.build(model), given, np.ones((1, 1)), data)
    losses, errors = plain(model, given, [1.0], data)
    np.testing.assert_allclose(result.losses[0], losses.numpy(), atol=1e-5)
    assert np.array_equal(result.errors[0], errors.numpy())


def test_three_networks_combine_and_a_single_row_may_be_flat():
    given, data = states(MLP, 3), examples(MLP)
    row = np.array([0.2, 0.5, 0.3])
    result = evaluate(networks.build(MLP), given, row, data)
    assert result.coefficients.shape == (1, 3)
    np.testing.assert_allclose(result.losses[0], plain(MLP, given, row.tolist(), data)[0].numpy(), atol=1e-6)


def test_figures_have_the_documented_shapes_types_and_standard_errors():
    data = examples(MLP, 37)
    result = evaluate(networks.build(MLP), states(MLP), COEFFICIENTS, data)
    assert result.examples == 37
    assert result.losses.shape == result.errors.shape == (5, 37)
    assert (result.losses.dtype, result.errors.dtype) == (np.float64, np.bool_)
    losses = result.losses[2]
    by_hand = np.sqrt(((losses - losses.sum() / 37) ** 2).sum() / 36 / 37)
    assert result.loss_se[2] == pytest.approx(by_hand, rel=1e-12)
    rate = result.error[2]
    assert result.error_se[2] == pytest.approx(np.sqrt(rate * (1 - rate) / 36), rel=1e-12)


def test_one_example_has_no_standard_error():
    assert np.isnan(standard_error(np.ones((2, 1)))).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("bn", ["reset", "keep"])
def test_weights_of_other_types_are_evaluated_as_they_are(dtype, bn):
    model = "mlp(64, 12, 10, norm=batch)"
    rounded = [{n: t.to(dtype) if t.is_floating_point() else t for n, t in s.items()} for s in states(model)]
    single = [{n: t.float() if t.is_floating_point() else t for n, t in s.items()} for s in rounded]
    given, expected = (
        evaluate(networks.build(model), s, COEFFICIENTS, examples(model), bn=bn) for s in (rounded, single)
    )
    np.testing.assert_allclose(given.losses, expected.losses, rtol=1e-4, atol=1e-5)


class Regularised(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.Dropout(0.5))
        self.head = nn.Linear(12, 10)

    def forward(self, x):
        return self.head(self.body(x))


def trained_mode():
    module = Regularised().train()
    module.body[1].eval()  # a frozen norm inside a network in train mode
    return module, [child.training for child in module.modules()]


@pytest.mark.parametrize("bn", ["reset", "keep", "repair"])
def test_the_module_is_evaluated_in_eval_mode_and_left_as_it_was(bn):
    module, modes = trained_mode()
    own = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    given = [{n: t + 1 for n, t in own.items()}, {n: t - 1 if t.is_floating_point() else t for n, t in own.items()}]
    given[1]["body.1.running_var"] = own["body.1.running_var"] * 2
    before = [{n: t.clone() for n, t in state.items()} for state in given]
    results = [evaluate(module, given, COEFFICIENTS[:4], examples(MLP), bn=bn).losses for _ in range(2)]
    assert np.array_equal(*results)  # no dropout
    assert [child.training for child in module.modules()] == modes
    for state, kept in zip([module.state_dict(), *given], [own, *before], strict=True):
        assert all(torch.equal(state[name], kept[name]) for name in kept)
    assert not any(parameter.grad is not None for parameter in module.parameters())


def test_the_mode_is_restored_after_a_failure():
    module, modes = trained_mode()
    with pytest.raises(DataError):
        evaluate(module, [module.state_dict()], np.ones((1, 1)), Split(torch.zeros(4, 63), torch.zeros(4).long()))
    assert [child.training for child in module.modules()] == modes


def test_progress_counts_the_rows():
    calls = []
    evaluate(
        networks.build(MLP), states(MLP), COEFFICIENTS, examples(MLP), progress=lambda *counts: calls.append(counts)
    )
    assert calls == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_several_splits_are_evaluated_as_each_alone():
    model = "mlp(64, 12, 10, norm=batch)"
    given, train, test = states(model), examples(model, 60), examples(model, 23)
    module = networks.build(model)
    both = Evaluator(module, {"train": train, "test": test}, train).evaluate(given, COEFFICIENTS)
    alone = evaluate(module, given, COEFFICIENTS, test, statistics=train)
    assert np.array_equal(both["test"].losses, alone.losses)
    assert np.array_equal(both["train"].losses, evaluate(module, given, COEFFICIENTS, train).losses)


@pytest.mark.parametrize("coefficients", [np.ones((2, 3)), np.ones((2, 1)), np.ones(3)])
def test_coefficients_that_do_not_fit_the_networks_are_refused(coefficients):
    with pytest.raises(OptionError, match="for 2 networks; give one for each"):
        evaluate(networks.build(MLP), states(MLP), coefficients, examples(MLP))


def test_an_unknown_treatment_of_batch_norm_is_refused():
    with pytest.raises(OptionError, match="'recompute' is unknown; choose reset, keep or repair"):
        evaluate(networks.build(MLP), states(MLP), COEFFICIENTS, examples(MLP), bn="recompute")


def damaged(change):
    first, second = states(MLP)
    change(second)
    return [first, second]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("linear1.bias"),
        lambda state: state.update({"linear9.bias": torch.zeros(1)}),
        lambda state: state.update({"linear1.bias": torch.zeros(1)}),
    ],
    ids=["missing", "unknown", "another shape that would broadcast"],
)
def test_networks_of_another_architecture_are_refused(change):
    with pytest.raises(ModelError, match=r"network 1 does not fit the module: 'linear\d.bias'"):
        evaluate(networks.build(MLP), damaged(change), COEFFICIENTS, examples(MLP))


class Returns(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output(x)


@pytest.mark.parametrize("bn", ["reset", "keep"])
@pytest.mark.parametrize(
    ("output", "message"),
    [
        (lambda x: x[:, 0], r"shape \(6,\) for 6 examples"),
        (lambda x: x.view(-1, 8, 8), r"shape \(6, 8, 8\)"),
        (lambda x: x[:, :9], r"shape \(6, 9\) for 6 examples with labels up to 9"),
        (lambda x: x.repeat(2, 1), r"shape \(12, 64\) for 6 examples"),
        (lambda x: (x,), "returns a tuple"),
        (lambda x: x @ x, r"does not take examples of shape \(64,\)"),
    ],
)
def test_networks_that_return_no_logits_are_refused(output, message, bn):
    data = Split(torch.randn(6, 64), torch.tensor([0, 1, 2, 3, 4, 9]))
    with pytest.raises(DataError, match=message):
        evaluate(Returns(output), [{}], np.ones((1, 1)), data, bn=bn)


def test_labels_that_are_no_class_indices_are_refused():
    data = Split(torch.randn(3, 64), torch.tensor([0, -1, 2]))
    with pytest.raises(DataError, match="class indices from 0, found -1"):
        evaluate(networks.build(MLP), states(MLP), COEFFICIENTS, data)
