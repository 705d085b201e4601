from __future__ import annotations

import pytest
import torch
from torch import nn

from fastmatch.errors import ModelError
from fastmatch.networks.resnet import resnet, resnet20


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("layers", "size", "classes", "expected"),
    [
        (18, 224, 1000, 11_689_512),
        (34, 224, 1000, 21_797_672),
        (50, 224, 1000, 25_557_032),
        (18, 32, 10, 11_173_962),
    ],
)
def test_resnet_has_its_published_number_of_parameters(layers, size, classes, expected):
    with torch.device("meta"):
        assert parameters(resnet(layers, size=size, classes=classes)) == expected


def test_resnet20_has_its_published_number_of_parameters():
    assert parameters(resnet20()) == 272_474


def test_resnet20_width_multiplies_the_channels_and_two_stages_project():
    network = resnet20(width=2)
    assert network.conv1.weight.shape == (32, 3, 3, 3)
    assert network.fc.weight.shape == (10, 128)
    projections = [name for name, _ in network.named_parameters() if name.endswith("downsample.0.weight")]
    assert projections == ["layer2.0.downsample.0.weight", "layer3.0.downsample.0.weight"]


def test_names_are_those_of_torchvision():
    names = set(resnet(50, width=1).state_dict())
    assert {"conv1.weight", "bn1.running_mean", "layer4.2.bn3.bias", "layer1.0.downsample.1.weight", "fc.bias"} <= names


def test_convolutions_have_a_bias_only_without_norm():
    for norm in ("none", "layer", "batch"):
        convolutions = [module for module in resnet20(norm=norm).modules() if isinstance(module, nn.Conv2d)]
        assert {module.bias is not None for module in convolutions} == {norm == "none"}


@pytest.mark.parametrize(("size", "side"), [(8, 1), (32, 4), (64, 8), (65, 3), (224, 7)])
def test_stem_follows_the_size(size, side):
    maps = []
    network = resnet(18, width=1, size=size).eval()
    network.avgpool.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0]))
    network(torch.zeros(1, 3, size, size))
    assert maps[0].shape == (1, 8, side, side)


@pytest.mark.parametrize("block", ["layer1.1", "layer2.0"])
def test_a_block_adds_its_shortcut_before_the_last_relu(block):
    torch.manual_seed(0)
    module = resnet(18, width=2, norm="none").get_submodule(block)
    nn.init.zeros_(module.conv2.weight)
    nn.init.zeros_(module.conv2.bias)
    x = torch.randn(2, 2, 6, 6)
    torch.testing.assert_close(module(x), torch.relu(module.downsample(x)))


@pytest.mark.parametrize("arguments", [{"width": 0}, {"size": 0}, {"classes": 0}, {"in_channels": 0}, {"norm": "x"}])
def test_refuses_arguments_out_of_range(arguments):
    for network in (lambda **keywords: resnet(18, **keywords), resnet20):
        with pytest.raises(ModelError, match=f"{next(iter(arguments))} is"):
            network(**arguments)
