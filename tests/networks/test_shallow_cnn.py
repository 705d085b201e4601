from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fastmatch.errors import ModelError
from fastmatch.networks.shallow_cnn import image_size, map_size, shallow_cnn


@pytest.mark.parametrize("size", [8, 28, 32])
def test_computes_what_the_all_convolutional_form_computes(size):
    torch.manual_seed(0)
    network = shallow_cnn(width=4, depth=3, size=size)
    weights = network.state_dict()
    side = map_size(size)
    x = torch.randn(2, 3, size, size)
    out = F.relu(F.conv2d(x, weights["conv1.weight"], weights["conv1.bias"], stride=2, padding=1))
    out = F.relu(F.conv2d(out, weights["conv2.weight"], weights["conv2.bias"], padding=1))
    out = F.relu(F.conv2d(out, weights["linear1.weight"].view(4, 4, side, side), weights["linear1.bias"]))
    expected = F.linear(out.flatten(1), weights["linear2.weight"], weights["linear2.bias"])
    torch.testing.assert_close(network(x), expected)


def test_the_last_hidden_layer_sees_the_13x13_map_of_the_paper():
    assert shallow_cnn(width=4).linear1.weight.shape == (4, 4 * 13 * 13)


@pytest.mark.parametrize("side", [1, 2, 11, 13])
def test_image_size_is_the_largest_with_its_map(side):
    assert map_size(image_size(side)) == side
    assert map_size(image_size(side) + 1) == side + 1


@pytest.mark.parametrize("arguments", [{"width": 0}, {"depth": 1}, {"size": 6}, {"classes": 0}, {"in_channels": 0}])
def test_refuses_arguments_out_of_range(arguments):
    with pytest.raises(ModelError, match=f"{next(iter(arguments))} is"):
        shallow_cnn(**arguments)
