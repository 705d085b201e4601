"""Forms of operations that networks in the wild use: pinned or followed, never an error."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune

from fastmatch import Split, match_activations, trace
from fastmatch.symmetry import observe


class Between(nn.Module):
    """Two linear layers with something between them."""

    def __init__(self, middle):
        super().__init__()
        self.a, self.middle, self.b = nn.Linear(5, 8), middle, nn.Linear(8, 3)

    def forward(self, x):
        return self.b(self.middle(self.a(x)))


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *arguments):
        return self.function(*arguments)


FREE = {
    "batch norm without statistics": nn.BatchNorm1d(8, track_running_stats=False),
    "batch norm without affine": nn.BatchNorm1d(8, affine=False),
    "none indexing": Call(lambda h: (h[:, :, None] * h[:, None, :].mean(2, keepdim=True)).sum(2)),
    "where with zeros": Call(lambda h: torch.where(h > 0.1, h, torch.zeros_like(h))),
    "clamp and power": Call(lambda h: h.clamp(-1, 1).pow(2)),
    "softmax": nn.Softmax(1),
    "star arguments": Call(torch.tanh),
}
PINNED = {
    "strided slice": Call(lambda h: torch.cat((h[:, ::2], h[:, 1::2]), 1)),
    "flip": Call(lambda h: h.flip(1)),
    "cumulative sum": Call(lambda h: h.cumsum(1)),
    "sum of positive entries": Call(lambda h: h + h[h > 0].sum()),
    "product with a vector": Call(lambda h: h * F.linear(h, torch.arange(8.0).to(h.dtype))[:, None]),
}


@pytest.mark.parametrize("form", FREE)
def test_forms_that_do_not_see_the_order_leave_the_group_free(form):
    module, inputs = Between(FREE[form]), (torch.randn(4, 5),)
    spec = trace(module, inputs)
    assert [group.size for group in spec.groups] == [8]
    assert spec.certify(module, inputs).passed


@pytest.mark.parametrize("form", PINNED)
def test_forms_that_see_the_order_pin_it(form):
    module, inputs = Between(PINNED[form]), (torch.randn(4, 5),)
    spec = trace(module, inputs)
    assert spec.groups == ()
    assert spec.certify(module, inputs).passed


def test_a_cut_leaves_the_segments_free():
    """Units 0 and 1 are lost, the others move to the front, and zeros follow: three segments."""
    module, inputs = Between(Call(lambda h: F.pad(h[:, 2:], (0, 2)))), (torch.randn(4, 5),)
    spec = trace(module, inputs)
    assert sorted(group.size for group in spec.groups) == [2, 2, 6]
    assert spec.certify(module, inputs).passed


def test_a_unit_picked_by_number_stays_and_the_others_move():
    module, inputs = Between(Call(lambda h: h * h[:, 2:3] + h[:, 5, None])), (torch.randn(4, 5),)
    spec = trace(module, inputs)
    assert sorted(group.size for group in spec.groups) == [2, 2, 2]
    assert ("a.weight[0] from 5", "positions picked by number") in {(pin.axis, pin.reason) for pin in spec.pinned}
    assert spec.certify(module, inputs).passed


def test_arguments_behind_a_star_are_traced():
    class Star(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Between(nn.ReLU())

        def forward(self, *inputs):
            return self.net(inputs[0])

    assert len(trace(Star(), (torch.randn(4, 5),)).groups) == 1


def test_a_norm_under_two_names_is_permuted_but_its_statistics_are_not_matched():
    module = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).eval()
    module.again = nn.Identity()
    module.add_module("alias", module[1])
    module.forward = lambda x: module[2](module[1](module[0](x)))
    spec = trace(module, (torch.randn(4, 5),))
    (group,) = spec.groups
    assert {place.tensor for place in group.occurrences} >= {"1.running_mean", "alias.running_mean"}
    assert not any("running" in place.tensor for place in spec.matched(group))


def test_groups_are_observed_on_activations_and_never_on_weights():
    """A pruning mask makes the next layer's weight an elementwise result that carries the group."""
    module = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    for layer in (module[0], module[2]):
        prune.random_unstructured(layer, "weight", amount=0.3)
    inputs = (torch.randn(4, 5),)
    spec = trace(module, inputs)
    taps, graph = observe(spec, module, inputs)
    (tap,) = taps.values()
    targets = {node.name: str(node.target) for node in graph.module.graph.nodes}
    assert targets[tap.place.tensor] == "aten.relu.default"
    data = Split(torch.randn(200, 5), torch.zeros(200, dtype=torch.int64))
    state = module.state_dict()
    planted = spec.random(1)
    match = match_activations(spec, module, state, spec.permute(state, planted), data)
    assert (planted["0"][match.permutation.indices["0"]] == torch.arange(8).numpy()).all()


FOUND = {
    "circular padding": (
        nn.Sequential(nn.Conv2d(1, 6, 3), nn.Conv2d(6, 4, 3, padding=1, padding_mode="circular"), nn.Flatten(2)),
        (2, 1, 8, 8),
        [6],
    ),
    "values written into a copy": (Between(Call(lambda h: written(h))), (4, 5), [4, 4]),
    "a chain of a thousand layers": (Between(Call(lambda h: multiplied(h, 1000))), (4, 5), [8]),
    "a sum of products in batches": (
        Between(Call(lambda h: h * torch.addbmm(h[:3, :], torch.ones(2, 3, 5), torch.ones(2, 5, 8)).sum(0))),
        (4, 5),
        [],
    ),
}


def written(h):
    h = h.clone()
    h[:, :4] = torch.tanh(h[:, :4])
    return h


def multiplied(h, times):
    for _ in range(times):
        h = h * torch.ones(8).to(h.dtype)
    return h


@pytest.mark.parametrize("form", FOUND)
def test_forms_in_their_place_leave_what_is_free(form):
    module, shape, sizes = FOUND[form]
    inputs = (torch.randn(shape),)
    spec = trace(module, inputs)
    assert sorted(group.size for group in spec.groups) == sizes
    assert spec.certify(module, inputs).passed
