from __future__ import annotations

import pytest
import torch
from torch import nn

from fastmatch.errors import ModelError
from fastmatch.networks.mlp import mlp


def test_widths_are_layers_and_inputs_are_flattened():
    network = mlp(12, 7, 5, 3)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.named_parameters() if name.endswith("weight")}
    assert shapes == {"linear1.weight": (7, 12), "linear2.weight": (5, 7), "linear3.weight": (3, 5)}
    assert network(torch.zeros(4, 3, 2, 2)).shape == (4, 3)


@pytest.mark.parametrize(("norm", "layer"), [("none", nn.Identity), ("layer", nn.LayerNorm), ("batch", nn.BatchNorm1d)])
def test_norm_stands_before_each_relu_only(norm, layer):
    kinds = [type(module) for module in mlp(4, 5, 6, 3, norm=norm)]
    assert kinds == [nn.Flatten, *[nn.Linear, layer, nn.ReLU] * 2, nn.Linear]


@pytest.mark.parametrize(("widths", "norm"), [((), "none"), ((5,), "none"), ((5, 0, 3), "none"), ((5, 3), "weird")])
def test_refuses_arguments_out_of_range(widths, norm):
    with pytest.raises(ModelError):
        mlp(*widths, norm=norm)
