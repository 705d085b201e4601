"""Features compared layer by layer: networks whose figures are known exactly, and the same figures computed at once."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

import fastmatch
from fastmatch.analysis import features
from fastmatch.errors import ModelError, OptionError, SymmetryError
from fastmatch.interpolation import Evaluator

MLP = "mlp(64, 12, 9, 10)"


@pytest.fixture(scope="module")
def digits():
    return fastmatch.load_data("digits", limit=120)


def random_state(module, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(tensor.shape, generator=generator).to(dtype) / max(tensor.shape[-1:] or (1,)) ** 0.5
        if tensor.is_floating_point() and "running" not in name
        else tensor
        for name, tensor in module.state_dict().items()
    }


def chain(*weights):
    """Linear layers without biases, as a module and a state dict."""
    weights = [torch.tensor(weight, dtype=torch.float32) for weight in weights]
    module = nn.Sequential(*(nn.Linear(weight.shape[1], weight.shape[0], bias=False) for weight in weights))
    return module, {f"{number}.weight": weight for number, weight in enumerate(weights)}


def data_set(train, test):
    return fastmatch.DataSet("test", train, test, 10, (0.0,), (1.0,))


def vectors(size, examples=40):
    inputs = torch.randn(examples, size, generator=torch.Generator().manual_seed(1))
    split = fastmatch.Split(inputs, torch.zeros(examples, dtype=torch.int64))
    return data_set(split, split)


def layers(result, pair="unaligned"):
    return result.pairs[pair].layers


def assert_linear(layer):
    np.testing.assert_allclose(layer.cosine, 1, atol=1e-6)
    np.testing.assert_allclose(layer.scale, 1, atol=1e-5)


def test_linear_networks_that_differ_in_one_layer_interpolate_exactly_and_commute():
    """Every feature is then affine in alpha: what comes before is the same, what comes after one linear map."""
    module, a = chain(*(np.random.default_rng(n).normal(size=(5, 5)) for n in range(3)))
    b = {**a, "1.weight": torch.randn(5, 5, generator=torch.Generator().manual_seed(9))}
    for layer in layers(features(module, a, b, vectors(5))):
        assert_linear(layer)
        assert layer.commutativity == pytest.approx(0, abs=1e-12)
    assert layer.baseline < 0.9


def test_linear_networks_that_commute_interpolate_exactly_though_all_layers_differ():
    """Theorem 1 where additivity is trivial: the first layers differ in units that the second ones read alike."""
    module, a = chain([[1.0, 2], [3, 4], [5, 6]], [[1.0, -1, 2], [0, 1, 3]])
    _, b = chain([[7.0, -2], [3, 4], [5, 6]], [[1.0, 4, -2], [0, 2, 5]])
    first, second = layers(features(module, a, b, vectors(2)))
    for layer in (first, second):
        assert_linear(layer)
        assert layer.commutativity == pytest.approx(0, abs=1e-12)
        assert layer.weight_distance > 0.1
    assert second.input_distance > 0.1


def test_products_of_interpolated_weights_are_not_linear_and_the_scale_says_by_how_much():
    """One unit a layer: 2 * 3 = 6 and 4 * 5 = 20; the midpoint is 3 * 4 = 12, and the mean 13."""
    module, a = chain([[2.0]], [[3.0]])
    _, b = chain([[4.0]], [[5.0]])
    result = features(module, a, b, vectors(1), alphas=3)
    first, second = layers(result)
    assert_linear(first)
    np.testing.assert_allclose(second.cosine, 1, atol=1e-6)
    np.testing.assert_allclose(second.scale, [1, 12 / 13, 1], rtol=1e-6)
    assert second.commutativity == pytest.approx((26 - 22) ** 2 / (26 * 22))
    assert second.weight_distance == pytest.approx((5 - 3) ** 2 / 15)
    assert second.input_distance == pytest.approx((4 - 2) ** 2 / 8)
    assert first.commutativity == 0
    assert first.input_distance == 0


def test_additivity_of_relu_by_hand():
    """Pre-activations (3, -1) and (-1, 3): ReLU of their mean is (1, 1), the mean of their ReLUs (1.5, 1.5)."""
    module = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(), nn.Linear(2, 2))
    a, b = (random_state(module, 0) | {"0.weight": torch.tensor(w)} for w in ([[3.0], [-1.0]], [[-1.0], [3.0]]))
    split = fastmatch.Split(torch.tensor([[1.0], [2.0]]), torch.zeros(2, dtype=torch.int64))
    first, last = layers(features(module, a, b, data_set(split, split), alphas=3))
    np.testing.assert_allclose(first.additivity, [0, 0.5 / 3, 0], atol=1e-12)
    assert first.largest_additivity == pytest.approx(0.5 / 3)
    np.testing.assert_allclose(first.cosine, 1)
    np.testing.assert_allclose(first.scale, [1, 2 / 3, 1])
    assert last.additivity is None


def test_a_permuted_copy_brought_back_in_line_is_the_network_itself(digits):
    module = fastmatch.networks.build(MLP)
    a = random_state(module, 0)
    spec = fastmatch.trace(module, (digits.train.inputs[:4],))
    indices = {group.name: np.random.default_rng(3).permutation(group.size) for group in spec.groups}
    permutation = fastmatch.Permutation(spec, indices)
    result = features(module, a, permutation.apply(a), digits, permutation=permutation.invert(), alphas=3)
    for layer in layers(result, "aligned"):
        assert_linear(layer)
        assert layer.baseline == pytest.approx(1)
        assert layer.commutativity == layer.input_distance == layer.weight_distance == 0
    errors = {stitch.error for stitch in result.pairs["aligned"].stitching}
    assert len(errors) == 1
    assert layers(result)[-1].cosine[1] < 0.98
    assert len({stitch.error for stitch in result.pairs["unaligned"].stitching}) > 1


def hooked(module, state, names, inputs):
    """Outputs of some modules, in one run."""
    found = {}
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _, x, y, name=name: found.update({name: (x[0], y)}))
        for name in names
    ]
    module.load_state_dict(state)
    with torch.no_grad():
        module.double().eval()(inputs.double())
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_streamed_figures_are_those_of_all_examples_at_once(digits, norm):
    module = fastmatch.networks.build(f"mlp(64, 24, 20, 10, norm={norm})").double()
    a, b = (random_state(module, seed, torch.float64) for seed in (0, 1))
    split = fastmatch.Split(digits.train.inputs.double(), digits.train.labels)
    double = data_set(split, split)
    result = features(module, a, b, double, alphas=3, batch_size=32)
    names = ["relu1", "relu2", "linear3"]
    evaluator = Evaluator(module, {"test": double.test}, double.train)
    x, y, between = (
        hooked(module, state, [*names, "linear2"], double.test.inputs)
        for state in evaluator.states([a, b], np.array([[1, 0], [0, 1], [0.5, 0.5]]))
    )
    for layer, name in zip(layers(result), names, strict=True):
        mean, got = (x[name][1] + y[name][1]) / 2, between[name][1]
        expected = cosine_similarity(got, mean)
        assert layer.cosine[1] == pytest.approx(float(expected.mean()), rel=1e-12)
        assert layer.cosine_sd[1] == pytest.approx(float(expected.std()), rel=1e-9)
        assert layer.scale[1] == pytest.approx(float(((got * mean).sum(1) / mean.square().sum(1)).mean()), rel=1e-12)
        assert layer.baseline == pytest.approx(float(cosine_similarity(x[name][1], y[name][1]).mean()), rel=1e-12)
    pre, other = x["relu2"][0], y["relu2"][0]
    left, right = ((pre + other) / 2).relu(), (pre.relu() + other.relu()) / 2
    expected = (left - right).square().sum(1) / left.norm(dim=1) / right.norm(dim=1)
    assert layers(result)[1].additivity[1] == pytest.approx(float(expected.mean()), rel=1e-12)
    (ha, _), (hb, _), wa, wb = x["linear2"], y["linear2"], a["linear2.weight"], b["linear2.weight"]
    left, right = ha @ wa.T + hb @ wb.T, ha @ wb.T + hb @ wa.T
    expected = (left - right).square().sum() / left.norm() / right.norm()
    assert layers(result)[1].commutativity == pytest.approx(float(expected), rel=1e-10)
    values = torch.linalg.svdvals(x["relu1"][1]).numpy()
    np.testing.assert_allclose(layers(result)[0].activations[0].values, values, atol=1e-3 * values[0])


def test_the_batch_size_changes_nothing_but_rounding(digits):
    layers_before = nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 2)
    module = nn.Sequential(*layers_before, nn.ReLU(), nn.Flatten(), nn.Linear(20, 10)).eval()
    a, b = (random_state(module, seed) for seed in (0, 1))
    one, other = (features(module, a, b, digits, alphas=3, batch_size=size) for size in (120, 7))
    for first, second in zip(layers(one), layers(other), strict=True):
        for name in ("cosine", "scale", "baseline", "commutativity", "input_distance"):
            np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-4, err_msg=name)
    assert one.pairs["unaligned"].stitching == other.pairs["unaligned"].stitching


def test_examples_without_any_activity_are_counted_and_left_out(digits):
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU(), nn.Linear(3, 10))
    a = random_state(module, 0)
    dead = {**a, "1.bias": torch.full((3,), -100.0)}
    first, last = layers(features(module, a, dead, digits, alphas=3))
    assert first.silent == len(digits.test)
    assert np.isnan(first.baseline)
    assert first.cosine[0] == pytest.approx(1)
    assert np.isnan(first.cosine[2])
    assert last.silent == 0
    json.dumps(features(module, a, dead, digits, alphas=3).to_json())


def test_known_pieces_are_not_computed_again(digits):
    module = fastmatch.networks.build(MLP)
    a, b = (random_state(module, seed) for seed in (0, 1))
    known, ticks = {}, []
    first = features(module, a, b, digits, alphas=3, known=known, progress=lambda *done: ticks.append(done))
    assert ticks == [(number + 1, len(known)) for number in range(len(known))]
    known = json.loads(json.dumps(known))
    assert features(module, a, b, digits, alphas=3, known=known).to_json() == first.to_json()
    known["unaligned, alpha 0.5"]["cosine"][1] = [0.25, 0.0]
    assert layers(features(module, a, b, digits, alphas=3, known=known))[1].cosine[1] == 0.25


def test_layers_without_a_cosine_are_not_the_lowest_and_what_was_not_finite_is_read_back():
    module, a = chain([[1.0]], [[1.0]])
    _, b = chain([[1.0]], [[-1.0]])  # the middle of the second layer is zero
    known = {}
    result = features(module, a, b, vectors(1), alphas=3, known=known)
    assert np.isnan(result.pairs["unaligned"].layers[1].cosine[1])
    assert result.lowest("unaligned").name == "0"
    known["unaligned, stitched after 0"]["loss"] = None
    again = features(module, a, b, vectors(1), alphas=3, known=known)
    assert np.isnan(again.pairs["unaligned"].stitch("0").loss)


def test_activations_that_are_not_finite_are_refused_by_their_layer():
    module, a = chain([[1e38]], [[1e38]])
    with pytest.raises(ModelError, match="layer '0': activations"):
        features(module, a, a, vectors(1), alphas=3)


def test_what_cannot_be_compared_is_refused(digits):
    module = fastmatch.networks.build(MLP)
    a = random_state(module, 0)
    with pytest.raises(OptionError, match="odd"):
        features(module, a, a, digits, alphas=4)
    with pytest.raises(OptionError, match="bn 'repair'"):
        features(module, a, a, digits, bn="repair")
    with pytest.raises(ModelError, match="network b has NaN"):
        features(module, a, {**a, "linear1.bias": torch.full((12,), torch.nan)}, digits)
    with pytest.raises(ModelError, match="does not fit"):
        features(module, a, {**a, "linear1.bias": torch.zeros(13)}, digits)
    with pytest.raises(SymmetryError, match="no convolution or linear layer"):
        features(nn.Flatten(), {}, {}, digits)
