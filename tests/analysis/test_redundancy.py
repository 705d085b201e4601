from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import networks, trace
from fastmatch.analysis import merge_units, narrow, pad, single_linkage, unit_similarity
from fastmatch.errors import ModelError, OptionError, SymmetryError
from tests.interpolation.populations import trained

MODEL = "mlp(64, 16, 12, 10)"


def plant(state, factors):
    """Units 0, 1, 2 of the first layer, and multiples of them in the places that ``factors`` name."""
    state = {name: tensor.double() for name, tensor in state.items()}
    for place, (source, factor) in factors.items():
        for name in ("linear1.weight", "linear1.bias"):
            state[name][place] = factor * state[name][source]
    return state


def outputs(model, state, inputs):
    module = networks.build(model).double().eval()
    module.load_state_dict(state)
    return module(inputs.double())


def test_planted_multiples_are_merged_and_the_function_stays(digits):
    module, spec = trained(MODEL, digits)
    inputs, planted = digits.test.inputs[:50], {5: (0, 1.0), 9: (0, 0.3), 14: (2, 7.0)}
    state = plant(module.state_dict(), planted)
    found = merge_units(spec, module, state, (inputs,), threshold=0.9999)
    assert found.widths == {"linear1": 13, "linear2": 12}
    assert found.to_json()["kept"]["linear2"] == list(range(12))
    expected = outputs(MODEL, state, inputs)
    torch.testing.assert_close(outputs(MODEL, found.state, inputs), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(outputs("mlp(64, 13, 12, 10)", found.narrow, inputs), expected, rtol=1e-12, atol=1e-12)
    gone = np.setdiff1d(np.arange(16), found.kept["linear1"])
    assert not found.state["linear1.weight"][gone].any()
    assert not found.state["linear2.weight"][:, gone].any()


def test_negative_multiples_are_other_features(digits):
    module, spec = trained(MODEL, digits)
    state = plant(module.state_dict(), {5: (0, -1.0)})
    found = merge_units(spec, module, state, (digits.test.inputs[:5],), threshold=0.9999)
    assert found.widths == {"linear1": 16, "linear2": 12}


def test_similarity_is_the_cosine_of_incoming_weights_and_bias(digits):
    module, spec = trained(MODEL, digits)
    state = module.state_dict()
    vectors = torch.cat([state["linear2.weight"], state["linear2.bias"][:, None]], 1).double().numpy()
    expected = vectors @ vectors.T / np.outer(*[np.linalg.norm(vectors, axis=1)] * 2)
    np.testing.assert_allclose(unit_similarity(spec, state, "linear2").numpy(), expected, atol=1e-12)


def test_similarity_is_symmetric_and_can_be_clustered():
    module = nn.Sequential(nn.Linear(20, 33), nn.ReLU(), nn.Linear(33, 2))
    with torch.no_grad():
        module[0].weight[:, :], module[0].bias[:] = torch.randn(20), 0.3
    similarity = unit_similarity(trace(module, (torch.randn(2, 20),)), module.state_dict(), "0")
    assert similarity.equal(similarity.T)
    assert similarity.max() <= 1
    assert single_linkage(1 - similarity).connecting == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)],
        [nn.ConvTranspose2d(1, 6, 2), nn.ReLU(), nn.Conv2d(6, 2, 1)],
    ],
    ids=["gains", "transposed"],
)
def test_features_of_other_than_linear_and_convolution_layers_are_refused(layers):
    module = nn.Sequential(*layers).eval()
    spec = trace(module, (torch.randn(2, 1, 4, 4),))
    with pytest.raises(SymmetryError, match="not those of linear or convolution layers alone"):
        unit_similarity(spec, module.state_dict(), spec.groups[0].name)


def test_channels_of_convolutions_are_merged_through_flattening():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 2), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3)
    ).double()
    inputs = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        for number in (0, 3):
            module[number].weight[2], module[number].bias[2] = 2 * module[number].weight[4], 2 * module[number].bias[4]
    spec, state = trace(module, (inputs,)), module.state_dict()
    found = merge_units(spec, module, state, (inputs,), threshold=0.9999)
    assert found.widths == {"0": 5, "3": 7}
    expected = module(inputs)
    module.load_state_dict(found.state)
    torch.testing.assert_close(module(inputs), expected, rtol=1e-12, atol=1e-12)
    assert found.narrow["6.weight"].shape == (3, 28)
    small = nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 7, 2), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3)
    )
    for name, tensor in pad(spec, module, small, found.narrow, (inputs,)).items():
        assert tensor.shape == state[name].shape
        assert tensor.double().norm() == pytest.approx(found.state[name].norm().item())


@pytest.mark.parametrize(
    "layers", [[nn.Sigmoid()], [nn.LayerNorm(8), nn.ReLU()], [nn.BatchNorm1d(8), nn.ReLU()]], ids=str
)
def test_units_that_do_not_scale_are_refused(layers):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 8), *layers, nn.Linear(8, 2)).eval()
    inputs = (torch.randn(6, 3),)
    with pytest.raises(SymmetryError, match="units of group '0'"):
        merge_units(trace(module, inputs), module, module.state_dict(), inputs)


def test_a_threshold_that_is_none_is_refused(digits):
    module, spec = trained(MODEL, digits)
    with pytest.raises(OptionError, match=r"threshold 1\.0"):
        merge_units(spec, module, module.state_dict(), (digits.test.inputs[:2],), threshold=1.0)


def test_a_padded_network_is_the_same_function(digits):
    wide = "mlp(64, 20, 15, 10)"
    module, small = networks.build(wide), networks.build(MODEL)
    spec = trace(module.eval(), (digits.train.inputs[:2],))
    state = {name: tensor.double() for name, tensor in trained(MODEL, digits)[0].state_dict().items()}
    inputs = digits.test.inputs[:50]
    padded = pad(spec, module, small, state, (inputs,))
    torch.testing.assert_close(outputs(wide, padded, inputs), outputs(MODEL, state, inputs), rtol=1e-12, atol=1e-12)
    back = narrow(spec, padded, {"linear1": np.arange(16), "linear2": np.arange(12)})
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_only_narrower_networks_of_the_architecture_are_padded(digits):
    module, spec = trained(MODEL, digits)
    inputs = (digits.test.inputs[:2],)
    for model, message in (("mlp(64, 17, 12, 10)", "does not fit into"), ("mlp(64, 16, 10)", "other tensors")):
        small = networks.build(model)
        with pytest.raises(ModelError, match=message):
            pad(spec, module, small, small.state_dict(), inputs)
        with pytest.raises(ModelError, match="network 0 does not fit the module"):
            pad(spec, module, small, module.state_dict(), inputs)


class Mean(nn.Linear):
    """Reads the mean over its inputs, beside them."""

    def forward(self, x):
        return super().forward(x) + x.mean(1, keepdim=True)


@pytest.mark.parametrize(
    "parts",
    [
        lambda n: [nn.Linear(5, n), nn.LayerNorm(n), nn.ReLU(), nn.Linear(n, 3)],
        lambda n: [nn.Linear(5, n), nn.RMSNorm(n), nn.ReLU(), nn.Linear(n, 3)],
        lambda n: [nn.Linear(5, n), nn.ReLU(), Mean(n, 3)],
    ],
)
def test_padding_that_changes_the_function_is_refused(parts):
    torch.manual_seed(0)
    small, wide = (nn.Sequential(*parts(n)).eval() for n in (4, 8))
    inputs = (torch.randn(6, 5),)
    with pytest.raises(SymmetryError, match="padding changes the function"):
        pad(trace(wide, inputs), wide, small, small.state_dict(), inputs)


def test_units_that_are_not_there_cannot_be_kept(digits):
    module, spec = trained(MODEL, digits)
    with pytest.raises(SymmetryError, match="linear9"):
        narrow(spec, module.state_dict(), {"linear9": np.arange(3)})
    for units in ([0, 16], [-1, 0]):
        with pytest.raises(OptionError, match="has units 0 to 15"):
            narrow(spec, module.state_dict(), {"linear1": np.array(units)})


def test_units_are_merged_where_the_weights_are(digits, device):
    module, spec = trained(MODEL, digits)
    state = plant(module.state_dict(), {5: (0, 2.0)})
    here = {name: tensor.to(device) for name, tensor in state.items()}
    expected = merge_units(spec, module, state, (digits.test.inputs[:5],), threshold=0.99)
    found = merge_units(spec, module, here, (digits.test.inputs[:5].to(device),), threshold=0.99)
    assert found.to_json() == expected.to_json()
    for name, tensor in found.narrow.items():
        assert tensor.device == here[name].device
        torch.testing.assert_close(tensor.cpu(), expected.narrow[name])
