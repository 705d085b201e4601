"""Merging: copies give the network back, figures are what they are said to be, and repair is folded in."""

import numpy as np
import pytest
import torch

from fastmatch import Permutation, analysis, evaluate, networks, trace
from fastmatch.errors import ModelError, OptionError
from fastmatch.interpolation import Evaluator
from tests.analysis import trained
from tests.problems import build, example


@pytest.fixture(scope="module")
def trio():
    return [trained.run(seed)[trained.STEPS[-1]] for seed in range(3)]


@pytest.fixture(scope="module")
def data():
    return trained.data().take(300)


def logits(state, split):
    module = trained.module()
    return torch.func.functional_call(module, dict(state), (split.inputs,)).double()


def test_copies_give_the_network_back(trio, data):
    spec = trained.spec()
    copies = [trio[0], *(Permutation.random(spec, seed).apply(trio[0]) for seed in (1, 2))]
    found = analysis.merge(trained.module(), copies, data, method="weight", weights=[1, 2, 1])
    for name, tensor in trio[0].items():
        torch.testing.assert_close(found.state[name], tensor, rtol=1e-6, atol=1e-7)
    assert found.merged["test"].loss == pytest.approx(found.parts["test"][0].loss, rel=1e-5)
    assert found.unaligned["test"].loss > found.merged["test"].loss
    assert found.weights == (0.25, 0.5, 0.25)


@pytest.mark.parametrize("weights", [None, [0.5, 0.3, 0.2]])
def test_figures_are_those_of_plain_evaluation(trio, data, weights):
    found = analysis.merge(trained.module(), trio, data, method="weight", weights=weights)
    shares = torch.tensor(weights or [1 / 3] * 3, dtype=torch.float64)
    for name, split in (("train", data.train), ("test", data.test)):
        every = [logits(state, split) for state in trio]
        own = [torch.nn.functional.cross_entropy(one, split.labels).item() for one in every]
        assert [part.loss for part in found.parts[name]] == pytest.approx(own, rel=1e-5)
        assert found.mean[name].loss == pytest.approx(float(shares @ torch.tensor(own).double()), rel=1e-5)
        mixed = sum(share * one.softmax(1) for share, one in zip(shares, every, strict=True))
        assert found.ensemble[name].loss == pytest.approx(
            torch.nn.functional.nll_loss(mixed.log(), split.labels).item(), rel=1e-6
        )
        assert found.ensemble[name].error == (mixed.argmax(1) != split.labels).double().mean().item()
        merged = logits(found.state, split)
        assert found.merged[name].error == pytest.approx((merged.argmax(1) != split.labels).double().mean().item())
    placed = [p.apply(state) for p, state in zip(found.match.permutations, trio, strict=True)]
    expected = sum(share * state["linear1.weight"].double() for share, state in zip(shares, placed, strict=True))
    torch.testing.assert_close(found.state["linear1.weight"].double(), expected, rtol=1e-5, atol=1e-6)


def test_alignment_helps_and_the_result_is_plain_data(trio, data):
    found = analysis.merge(trained.module(), trio, data, method="activation")
    assert found.merged["test"].loss < found.unaligned["test"].loss
    shown = found.to_json()
    assert shown["parts"]["test"][1]["loss"] == found.parts["test"][1].loss
    assert shown["match"]["method"] == "activation (universe)"


def test_statistics_of_batchnorm_are_the_merged_networks_own():
    model = "mlp(64, 12, 10, norm=batch)"
    module, data = build(model), trained.data().take(200)
    states = [build(model, seed).state_dict() for seed in (0, 1)]
    found = analysis.merge(module, states, data, method="weight")
    again = evaluate(module, [found.state], np.ones((1, 1)), data.test, bn="keep")
    assert again.loss[0] == pytest.approx(found.merged["test"].loss, rel=1e-5)
    kept = analysis.merge(module, states, data, method="weight", bn="keep")
    assert kept.merged["test"].loss != pytest.approx(found.merged["test"].loss, rel=1e-3)


def test_repair_is_folded_into_weights_and_biases(trio, data):
    found = analysis.merge(trained.module(), trio, data, method="weight", bn="repair")
    assert found.state.keys() == trio[0].keys()
    again = evaluate(trained.module(), [found.state], np.ones((1, 1)), data.test)
    assert again.loss[0] == pytest.approx(found.merged["test"].loss, rel=1e-4)
    plain = analysis.merge(trained.module(), trio, data, method="weight")
    assert found.merged["test"].loss != pytest.approx(plain.merged["test"].loss, rel=1e-3)


class Twice(torch.nn.Module):
    """A layer that runs twice, and one without a bias."""

    def __init__(self, twice):
        super().__init__()
        self.inner, self.head = torch.nn.Linear(64, 64, bias=twice), torch.nn.Linear(64, 10)
        self.twice = twice

    def forward(self, x):
        x = torch.relu(self.inner(x.flatten(1)))
        return self.head(torch.relu(self.inner(x)) if self.twice else x)


@pytest.mark.parametrize("twice", [True, False])
def test_repair_that_no_weights_can_hold_is_refused(twice, data):
    module = Twice(twice).eval()
    evaluator = Evaluator(module, {"test": data.test}, data.train, bn="repair")
    with pytest.raises(ModelError, match="cannot hold its repair"):
        evaluator.states([module.state_dict()] * 2, np.array([[0.5, 0.5]]))


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1.0], "1 weights for 3 networks"), ([1, -1, 1], "from 0 on"), ([0, 0, 0], "not all 0"), ([1, 1, np.nan], "nan")],
)
def test_weights_that_make_no_average_are_refused(trio, data, weights, message):
    with pytest.raises(OptionError, match=message):
        analysis.merge(trained.module(), trio, data, weights=weights)


def test_shares_of_any_size_are_those_of_their_quotients(trio, data):
    huge = analysis.merge(trained.module(), trio, data, method="weight", weights=[1e308, 1e308, 0])
    assert huge.weights == (0.5, 0.5, 0)
    assert any(tensor.count_nonzero() for tensor in huge.state.values())
    assert analysis.merge(trained.module(), trio, data, method="weight", weights=[5e-324, 0, 0]).weights == (1, 0, 0)


def test_a_convolutional_network_with_batchnorm_is_merged(digits):
    model = "resnet20(width=1, norm=batch, in_channels=1, size=8)"
    module = networks.build(model).eval()
    spec = trace(module, example(model))
    state = module.state_dict()
    found = analysis.merge(module, [state, Permutation.random(spec, 1).apply(state)], digits.take(60), spec=spec)
    assert found.match.method.startswith("auto: ")
    assert found.merged["test"].loss == pytest.approx(found.parts["test"][0].loss, rel=1e-3)
