"""Tracing: the groups of known networks, what is pinned, and that what is found is a symmetry."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastmatch import PermutationSpec, trace
from fastmatch.errors import SymmetryError
from tests.problems import PROBLEMS, build, example


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda problem: problem.model)
def test_built_in_networks_have_the_expected_groups_and_certify(problem):
    module, inputs = build(problem.model), example(problem.model)
    spec = trace(module, inputs)
    assert len(spec.groups) == problem.groups
    certificate = spec.certify(module, inputs)
    assert certificate.passed
    assert certificate.max_rel < 1e-12


def axes(spec: PermutationSpec) -> dict[str, list[str]]:
    return {group.name: [str(place) for place in group.occurrences] for group in spec.groups}


def test_mlp_groups_axis_for_axis():
    spec = trace(build("mlp(6, 5, 4, 3)"), (torch.randn(2, 6),))
    assert axes(spec) == {
        "linear1": ["linear1.weight[0]", "linear1.bias[0]", "linear2.weight[1]"],
        "linear2": ["linear2.weight[0]", "linear2.bias[0]", "linear3.weight[1]"],
    }
    assert {pin.axis: pin.reason for pin in spec.pinned} == {
        "linear1.weight[1]": "input of the network",
        "linear3.weight[0]": "output of the network",
        "linear3.bias[0]": "output of the network",
    }


class Flattened(nn.Module):
    """conv -> flatten -> linear, under names that say nothing."""

    def __init__(self):
        super().__init__()
        self.x, self.y = nn.Conv2d(1, 4, 3), nn.Linear(4 * 6 * 6, 3)

    def forward(self, x):
        return self.y(F.relu(self.x(x)).flatten(1))


def test_flattened_channels_are_blocks_of_the_linear_layer():
    spec = trace(Flattened(), (torch.randn(2, 1, 8, 8),))
    (group,) = spec.groups
    box = next(place.box for place in group.occurrences if place.tensor == "y.weight")
    assert next((factor.group, factor.size, factor.stride) for factor in box.factors) == ("x", 4, 36)


class Residual(nn.Module):
    """One stream with an identity shortcut, then one with a projection."""

    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.back = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 8)
        self.wide, self.projection, self.head = nn.Linear(8, 7), nn.Linear(8, 7), nn.Linear(7, 3)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x + self.back(F.relu(self.inner(x)))
        return self.head(F.relu(self.wide(x)) + self.projection(x))


def test_identity_shortcuts_tie_and_projections_do_not():
    spec = trace(Residual(), (torch.randn(2, 5),))
    groups = axes(spec)
    assert set(groups) == {"stem", "inner", "wide"}
    assert {"stem.weight[0]", "back.weight[0]", "inner.weight[1]", "wide.weight[1]"} <= set(groups["stem"])
    assert {"wide.weight[0]", "projection.weight[0]", "head.weight[1]"} <= set(groups["wide"])


class OneChannelPicked(nn.Module):
    """A fixed constant for each unit is no symmetry."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(5, 4), nn.Linear(4, 3)
        self.register_buffer("scale", torch.arange(1.0, 5.0), persistent=False)

    def forward(self, x):
        return self.b(F.relu(self.a(x)) * self.scale)


def test_a_constant_for_each_unit_pins_it_with_the_reason():
    spec = trace(OneChannelPicked(), (torch.randn(2, 5),))
    assert spec.groups == ()
    assert {pin.reason for pin in spec.pinned if pin.axis == "a.weight[0]"} == {"constant of the network"}


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.c(F.relu(self.b(torch.sort(self.a(x), dim=1).values)))


def test_an_operation_without_rule_pins_what_it_touches_and_is_named():
    module, inputs = Unknown(), (torch.randn(2, 5),)
    spec = trace(module, inputs)
    assert [group.name for group in spec.groups] == ["b"]
    assert any("no rule for aten.sort" in pin.reason for pin in spec.pinned if pin.axis == "a.weight[0]")
    assert spec.certify(module, inputs).passed


@pytest.mark.parametrize(("groups", "expected"), [(1, [(8, 0)]), (2, [(2, 0), (4, 1)]), (8, [(8, 0)])])
def test_group_norm_moves_whole_groups_and_channels_inside_each(groups, expected):
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.GroupNorm(groups, 8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 3))
    spec = trace(module, (torch.randn(2, 1, 8, 8),))
    assert [(group.size, len(group.base)) for group in spec.groups] == expected
    assert spec.certify(module, (torch.randn(2, 1, 8, 8),)).passed


def test_grouped_convolution_moves_whole_groups_and_channels_inside_each():
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(12, 3, 4), nn.Flatten())
    inputs = (torch.randn(2, 1, 8, 8),)
    spec = trace(module, inputs)
    blocks, incoming, outgoing = spec.groups
    assert [(group.size, group.base) for group in spec.groups] == [(2, ()), (4, (blocks.name,)), (6, (blocks.name,))]
    assert {place.tensor for place in incoming.occurrences} == {"0.weight", "0.bias", "1.weight"}
    assert {place.tensor for place in outgoing.occurrences} == {"1.weight", "1.bias", "2.weight"}
    assert spec.certify(module, inputs).passed


class Tied(nn.Module):
    """One weight used on both sides of a unit axis, and one matrix under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 4, bias=False)
        self.copy = self.middle

    def forward(self, x):
        x = F.relu(self.first(x))
        return F.linear(F.relu(self.copy(F.relu(self.middle(x)))), self.first.weight.T)


def test_shared_and_reused_parameters_certify():
    module, inputs = Tied(), (torch.randn(2, 4),)
    spec = trace(module, inputs)
    assert [group.size for group in spec.groups] == [6]
    assert {"middle.weight[0]", "middle.weight[1]", "copy.weight[0]", "first.weight[0]"} <= set(axes(spec)["first"])
    assert spec.certify(module, inputs).passed


class Attention(nn.Module):
    """Views that split a unit axis into heads."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out, self.head = nn.Linear(12, 36), nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (3, 4)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return self.head(self.out((torch.softmax(q @ k.mT, -1) @ v).transpose(1, 2).flatten(2)).mean(1))


def test_attention_has_heads_and_coordinates_inside_them():
    module, inputs = Attention(), (torch.randn(2, 5, 12),)
    spec = trace(module, inputs)
    heads, keys, values, out = spec.groups
    assert [(group.size, group.base) for group in (heads, keys, values, out)] == [
        (3, ()),
        (4, (heads.name,)),
        (4, (heads.name,)),
        (12, ()),
    ]
    assert spec.certify(module, inputs).passed


def test_a_network_that_cannot_be_exported_says_so():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(SymmetryError, match="cannot follow Branch"):
        trace(Branch(), (torch.randn(2, 3),))


def test_tracing_leaves_mode_and_weights_alone():
    module = build("mlp(6, 5, 3, norm=batch)")
    module.train()
    module[0].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    modes = [child.training for child in module.modules()]
    trace(module, (torch.randn(2, 6),))
    assert [child.training for child in module.modules()] == modes
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
