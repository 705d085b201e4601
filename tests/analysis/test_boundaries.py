from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import load_data, networks
from fastmatch.analysis import boundaries
from fastmatch.errors import DataError, ModelError, OptionError


def states():
    return [networks.build("mlp(2, 3, 2)").state_dict() for _ in range(2)]


def test_probabilities_and_lines_are_those_of_the_combined_network():
    module, data = networks.build("mlp(2, 3, 2)"), load_data("moons").take(20)
    a, b = states()
    found = boundaries(module, [a, b], [[1, 0], [0.25, 0.75]], data.train.inputs, points=7)
    between = {name: 0.25 * a[name] + 0.75 * b[name] for name in a}
    module.load_state_dict(between)
    assert found.probabilities.shape == (2, 7, 7, 2)
    point = torch.tensor([[found.x[5], found.y[2]]], dtype=torch.float32)
    np.testing.assert_allclose(found.probabilities[1, 2, 5], module(point).softmax(1)[0].detach(), atol=1e-6)
    w1, w2, b = found.lines[1, 0]
    on_it = torch.tensor([[1.0, -(b + w1) / w2]], dtype=torch.float32)
    assert abs(module[1](on_it)[0, 0].item()) < 1e-5
    assert found.x[0] == pytest.approx(data.train.inputs[:, 0].min().item() - 0.3)
    assert found.to_json()["lines"][0][0] == pytest.approx(
        [*a["linear1.weight"][0].tolist(), a["linear1.bias"][0].item()]
    )


def test_what_is_not_in_the_plane_is_refused():
    module = networks.build("mlp(2, 3, 2)")
    with pytest.raises(OptionError, match="points of the plane"):
        boundaries(module, states(), [1, 0], torch.zeros(5, 3))
    with pytest.raises(OptionError, match="at least 2"):
        boundaries(module, states(), [1, 0], torch.zeros(5, 2), points=1)
    with pytest.raises(OptionError, match="give one for each"):
        boundaries(module, states(), [1, 0, 0], torch.zeros(5, 2))
    with pytest.raises(ModelError, match="does not fit the module"):
        boundaries(module, [nn.Linear(3, 2).state_dict()], [1], torch.zeros(5, 2))
    with pytest.raises(DataError, match="does not take"):
        boundaries(nn.Linear(3, 2), [nn.Linear(3, 2).state_dict()], [1], torch.zeros(5, 2))
    for first in (nn.BatchNorm1d(2), nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 1, 1), nn.Flatten())):
        other = nn.Sequential(first, nn.Linear(2, 2))
        with pytest.raises(ModelError, match="begins with other than a linear layer"):
            boundaries(other, [other.state_dict()], [1], torch.zeros(5, 2))
    flat = nn.Sequential(nn.Linear(2, 4), nn.Unflatten(1, (2, 2)))
    with pytest.raises(ModelError, match="a row of scores"):
        boundaries(flat, [flat.state_dict()], [1], torch.zeros(5, 2))


class Backwards(nn.Module):
    """Layers are registered in another order than they run, and give one score."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(2, 1)
        self.first = nn.Linear(2, 2, bias=False)

    def forward(self, x):
        return self.last(self.first(x).relu())


def test_lines_are_those_of_the_layer_that_runs_first_and_one_score_is_for_the_second_class():
    module = Backwards()
    found = boundaries(module, [module.state_dict()], [1], torch.zeros(3, 2), points=2)
    np.testing.assert_allclose(found.lines[0, :, :2], module.first.weight.detach().numpy())
    assert not found.lines[0, :, 2].any()
    point = torch.tensor([[found.x[1], found.y[0]]], dtype=torch.float32)
    score = module(point).sigmoid().item()
    np.testing.assert_allclose(found.probabilities[0, 0, 1], [1 - score, score], rtol=1e-6)
