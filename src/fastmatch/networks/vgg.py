"""VGG networks for small images."""

from __future__ import annotations

from math import ceil

from torch import nn

from fastmatch.networks.arguments import norm_2d, require_at_least

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
MULTIPLIERS = (1, 2, 4, 8, 8)


def vgg(
    layers: int, width: int = 64, norm: str = "none", in_channels: int = 3, size: int = 32, classes: int = 10
) -> nn.Module:
    """VGG of table 1 of its paper, with the classifier of Git Re-Basin: two hidden layers of ``8 * width`` units.

    Five stages of 3x3 convolutions with bias, each followed by a 2x2 max-pool that keeps incomplete windows, so that
    any size fits; maps end with side ``ceil(size / 32)``.

    Parameters
    ----------
    layers : {11, 13, 16, 19}
        Layers with weights in the paper's count, three of them linear.
    width : int
        Channels of the first stage; the later ones have 2, 4, 8 and 8 times as many. 64 in the paper.
    norm : {"none", "layer", "batch"}
        Norm after each convolution, before its ReLU.
    in_channels, size, classes : int
        Inputs are [N, in_channels, size, size].

    Raises
    ------
    ModelError
        An argument is out of range.

    References
    ----------
    Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1;
    Ainsworth et al., "Git Re-Basin", ICLR 2023.
    """
    require_at_least(1, width=width, in_channels=in_channels, size=size, classes=classes)
    network = nn.Sequential()
    number, channels = 0, in_channels
    for stage, (count, multiplier) in enumerate(zip(CONVOLUTIONS[layers], MULTIPLIERS, strict=True), start=1):
        for _ in range(count):
            number += 1
            network.add_module(f"conv{number}", nn.Conv2d(channels, multiplier * width, 3, padding=1))
            network.add_module(f"norm{number}", norm_2d(norm, multiplier * width))
            network.add_module(f"relu{number}", nn.ReLU())
            channels = multiplier * width
        network.add_module(f"pool{stage}", nn.MaxPool2d(2, ceil_mode=True))
    network.add_module("flatten", nn.Flatten())
    network.add_module("linear1", nn.Linear(channels * ceil(size / 32) ** 2, channels))
    network.add_module(f"relu{number + 1}", nn.ReLU())
    network.add_module("linear2", nn.Linear(channels, channels))
    network.add_module(f"relu{number + 2}", nn.ReLU())
    network.add_module("linear3", nn.Linear(channels, classes))
    return network
