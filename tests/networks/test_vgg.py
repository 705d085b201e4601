from __future__ import annotations

import pytest
import torch
from torch import nn

from fastmatch.errors import ModelError
from fastmatch.networks.vgg import vgg


@pytest.mark.parametrize("layers", [11, 13, 16, 19])
def test_has_the_layers_of_its_name(layers):
    kinds = [type(module) for module in vgg(layers, width=1)]
    assert kinds.count(nn.Conv2d) == layers - 3
    assert kinds.count(nn.Linear) == 3
    assert kinds.count(nn.MaxPool2d) == 5


def test_vgg16_has_its_published_convolutions_and_the_small_classifier():
    with torch.device("meta"):
        network = vgg(16)
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    assert sum(size for name, size in sizes.items() if name.startswith("conv")) == 14_714_688
    assert sum(size for name, size in sizes.items() if name.startswith("linear")) == 2 * (512 * 512 + 512) + 5130


@pytest.mark.parametrize("size", [1, 2, 8, 28, 32, 33, 64])
def test_any_size_fits(size):
    network = vgg(11, width=1, in_channels=1, size=size, classes=3)
    assert network(torch.zeros(2, 1, size, size)).shape == (2, 3)


@pytest.mark.parametrize("arguments", [{"width": 0}, {"size": 0}, {"classes": 0}, {"in_channels": 0}, {"norm": "x"}])
def test_refuses_arguments_out_of_range(arguments):
    with pytest.raises(ModelError, match=f"{next(iter(arguments))} is"):
        vgg(11, **arguments)
