"""Layers found in the graph, and where networks can be cut."""

import pytest
import torch
from torch import nn
from torch.nn.functional import log_softmax

import fastmatch
from fastmatch.analysis.layers import find_layers
from fastmatch.analysis.stitching import cuts, stitched
from fastmatch.errors import SymmetryError
from fastmatch.symmetry import GraphRunner
from tests.interpolation.unusual import Branch
from tests.zoo import ZOO

INPUTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """Runs one layer two times, and gives log-probabilities."""

    def __init__(self):
        super().__init__()
        self.zulu = nn.Linear(6, 6)
        self.alpha = nn.Linear(6, 6)

    def forward(self, x):
        return log_softmax(self.alpha(self.zulu(self.zulu(x).relu()).relu()), 1)


class Skip(nn.Module):
    """A residual block between two layers; names are in another order than the layers run."""

    def __init__(self):
        super().__init__()
        self.z_first = nn.Linear(6, 5)
        self.y_inner = nn.Linear(5, 5)
        self.x_outer = nn.Linear(5, 5)
        self.a_last = nn.Linear(5, 3)

    def forward(self, x):
        x = nn.functional.silu(self.z_first(x))
        x = (x + self.x_outer(self.y_inner(x).relu())).relu()
        return self.a_last(x)


def test_layers_come_in_order_of_execution_and_blocks_are_cut_at_their_ends():
    module = Skip()
    found = find_layers(module, INPUTS)
    assert [layer.name for layer in found.layers] == ["z_first", "y_inner", "x_outer", "a_last"]
    assert [after for after, _ in cuts(found)] == [None, "z_first", "x_outer", "a_last"]
    values = found.runner([layer.feature for layer in found.layers]).activations(module.state_dict(), (INPUTS,))
    first = nn.functional.silu(module.z_first(INPUTS))
    inner = module.y_inner(first).relu()
    outer = (first + module.x_outer(inner)).relu()
    for layer, expected in zip(found.layers, (first, inner, outer, module.a_last(outer)), strict=True):
        torch.testing.assert_close(values[layer.feature], expected)
    assert [layer.relu is not None for layer in found.layers] == [False, True, True, False]


def test_a_stitched_network_is_the_front_of_a_and_the_back_of_b():
    a, b = Skip(), Skip()
    state = {after: stitched(a.state_dict(), b.state_dict(), of_a) for after, of_a in cuts(find_layers(a, INPUTS))}
    network = Skip()
    network.load_state_dict(state["x_outer"])
    front = nn.functional.silu(a.z_first(INPUTS))
    front = (front + a.x_outer(a.y_inner(front).relu())).relu()
    torch.testing.assert_close(network(INPUTS), b.a_last(front))
    for after, whole in ((None, b), ("a_last", a)):
        assert all(state[after][name].equal(tensor) for name, tensor in whole.state_dict().items())


def test_a_layer_that_runs_again_is_not_cut_between_its_turns():
    found = find_layers(Twice(), INPUTS)
    assert [layer.name for layer in found.layers] == ["zulu", "zulu (2)", "alpha", "output"]
    assert [after for after, _ in cuts(found)] == [None, "zulu (2)", "alpha"]


def test_tied_names_go_to_one_side_together():
    module = nn.Sequential(
        nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 6, bias=False), nn.ReLU(), nn.Linear(6, 2)
    )
    module[2].weight = module[0].weight
    (_, none), (_, both), _ = cuts(find_layers(module, INPUTS))
    assert not none
    assert both == {"0.weight", "2.weight"}


class Patches(nn.Module):
    """Positions are added behind a permute of the convolution's outputs, as in vision transformers; then heads."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, 6, 2, stride=2)
        self.places = nn.Parameter(torch.randn(4, 6))
        self.heads = nn.Linear(6, 8)
        self.drop = nn.Dropout()
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        tokens = (self.embed(x).flatten(2).transpose(1, 2) + self.places).relu()
        return self.last(self.drop(self.heads(tokens)).relu().unflatten(-1, (2, 4)).transpose(1, 2).tanh())


def test_features_have_the_units_where_the_layer_has_them():
    module, inputs = Patches().eval(), torch.randn(3, 1, 4, 4)
    found = find_layers(module, inputs)
    values = found.runner([layer.feature for layer in found.layers]).activations(module.state_dict(), (inputs,))
    shapes = [values[layer.feature].shape[layer.unit_axis] for layer in found.layers]
    assert shapes == [6, 8, 3]
    assert [layer.relu is not None for layer in found.layers] == [False, True, False]
    assert values[found.layers[1].feature].min() == 0  # behind the ReLU, before the heads


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
def test_features_of_a_convolution_are_behind_norm_and_relu_and_before_pooling(norm):
    module = fastmatch.networks.build(f"vgg11(width=1, in_channels=1, size=8, norm={norm})").eval()
    inputs = torch.randn(4, 1, 8, 8)
    found = find_layers(module, inputs)
    assert [layer.name for layer in found.layers] == [
        *(f"conv{n}" for n in range(1, 9)),
        *(f"linear{n}" for n in (1, 2, 3)),
    ]
    values = found.runner([layer.feature for layer in found.layers]).activations(module.state_dict(), (inputs,))
    torch.testing.assert_close(values[found.layers[0].feature], module.relu1(module.norm1(module.conv1(inputs))))
    assert all(layer.cut is not None for layer in found.layers)


class Replacing(GraphRunner):
    """Runs a network with one value in place of its own."""

    def __init__(self, graph, name, value):
        super().__init__(graph, [])
        self._name, self._value = name, value

    def run_node(self, n):
        own = super().run_node(n)
        return self._value if n.name == self._name else own


@pytest.mark.parametrize(
    "name",
    ["tied autoencoder", "resnet18(width=2, norm=batch, in_channels=1, size=8)", "unet", "channel split", "lstm of 1",
     "vision transformer"],
)  # fmt: skip
def test_behind_every_cut_b_makes_of_the_features_of_a_what_the_stitched_network_does(name):
    (row,) = (network for network in ZOO if network.name == name)
    (inputs,) = row.inputs()
    torch.manual_seed(0)
    a, b = (row.build().eval() for _ in range(2))
    found = find_layers(a, inputs)
    features = {layer.name: layer.feature for layer in found.layers}
    values = found.runner(features.values()).activations(a.state_dict(), (inputs,))
    places = list(cuts(found))
    assert len(places) > 1
    for after, of_a in places[1:]:
        feature = features[after]
        (expected,) = Replacing(found.graph, feature, values[feature]).outputs(b.state_dict(), (inputs,))
        (output,) = found.runner([]).outputs(stitched(a.state_dict(), b.state_dict(), of_a), (inputs,))
        torch.testing.assert_close(output, expected)


@pytest.mark.parametrize("groups", [1, 2])
def test_weights_of_transposed_convolutions_have_their_units_first(groups):
    module = nn.ConvTranspose2d(4, 6, 1, groups=groups, bias=False)
    (layer,) = find_layers(module, torch.randn(2, 4, 1, 1)).layers
    weight = layer.units_first(module.weight).flatten(1)
    inputs = torch.randn(5, 4, 1, 1)
    parts = inputs.flatten(1).chunk(groups, 1)
    expected = torch.cat([part @ rows.T for part, rows in zip(parts, weight.chunk(groups), strict=True)], 1)
    torch.testing.assert_close(module(inputs).flatten(1), expected)


def test_a_network_that_cannot_be_exported_is_refused_in_plain_words():
    with pytest.raises(SymmetryError, match="layers are read off the exported network") as error:
        find_layers(Branch(), torch.randn(4, 1, 8, 8))
    assert "--tracing" not in str(error.value)
