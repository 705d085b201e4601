from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fastmatch import load_data, networks
from fastmatch.analysis import boundaries
from fastmatch.errors import ModelError, OptionError


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
    with pytest.raises(ModelError, match="no linear layer of two inputs"):
        boundaries(nn.Linear(3, 2), [nn.Linear(3, 2).state_dict()], [1], torch.zeros(5, 2))
