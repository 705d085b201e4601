"""Residual networks, with torchvision's parameter names.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

import torch
from torch import nn

from fastmatch.networks.arguments import norm_2d, require_at_least

LARGEST_CIFAR_SIZE = 64


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (figure 5, left)."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, channels, 3, stride, norm)
        self.bn1 = norm_2d(norm, channels)
        self.conv2 = _conv(channels, channels, 3, 1, norm)
        self.bn2 = norm_2d(norm, channels)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, channels, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, channels, H / stride, W / stride]."""
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (figure 5, right); the 3x3 one has the stride, as in torchvision."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, norm: str) -> None:
        super().__init__()
        outputs = self.expansion * channels
        self.conv1 = _conv(inputs, channels, 1, 1, norm)
        self.bn1 = norm_2d(norm, channels)
        self.conv2 = _conv(channels, channels, 3, stride, norm)
        self.bn2 = norm_2d(norm, channels)
        self.conv3 = _conv(channels, outputs, 1, 1, norm)
        self.bn3 = norm_2d(norm, outputs)
        self.relu = nn.ReLU()
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, inputs, H, W] -> [N, 4 * channels, H / stride, W / stride]."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + self.downsample(x))


STAGES: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
}


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: tuple[int, ...],
    large: bool,
    width: int,
    norm: str,
    in_channels: int,
    classes: int,
) -> nn.Module:
    """Stem, stages of blocks that halve the map and double the channels, global average pooling, linear layer."""
    require_at_least(1, width=width, in_channels=in_channels, classes=classes)
    network = nn.Sequential()
    network.add_module("conv1", _conv(in_channels, width, 7 if large else 3, 2 if large else 1, norm))
    network.add_module("bn1", norm_2d(norm, width))
    network.add_module("relu", nn.ReLU())
    if large:
        network.add_module("maxpool", nn.MaxPool2d(3, stride=2, padding=1))
    inputs = width
    for stage, count in enumerate(blocks):
        layer = nn.Sequential()
        for number in range(count):
            stride = 2 if stage > 0 and number == 0 else 1
            layer.append(block(inputs, width * 2**stage, stride, norm))
            inputs = block.expansion * width * 2**stage
        network.add_module(f"layer{stage + 1}", layer)
    network.add_module("avgpool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("fc", nn.Linear(inputs, classes))
    return network


def _conv(inputs: int, outputs: int, kernel: int, stride: int, norm: str) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=norm == "none")


def _shortcut(inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride, norm), norm_2d(norm, outputs))


def resnet20(width: int = 1, norm: str = "layer", in_channels: int = 3, size: int = 32, classes: int = 10) -> nn.Module:
    """ResNet-20 for CIFAR (section 4.2), with projection shortcuts where the shape changes.

    Parameters
    ----------
    width : int
        Multiplies the 16, 32 and 64 channels of the three stages, as in Git Re-Basin.
    norm : {"none", "layer", "batch"}
        Norm after each convolution; convolutions have a bias only without one.
    in_channels, size, classes : int
        Inputs are [N, in_channels, size, size].

    Raises
    ------
    ModelError
        An argument is out of range.
    """
    require_at_least(1, size=size)
    return _resnet(BasicBlock, (3, 3, 3), False, 16 * width, norm, in_channels, classes)


def resnet(
    layers: int, width: int = 64, norm: str = "batch", in_channels: int = 3, size: int = 32, classes: int = 10
) -> nn.Module:
    """ResNet of table 1.

    Sizes up to 64 get the stem of CIFAR networks (3x3, stride 1), larger ones that of the paper (7x7, stride 2, and
    max-pooling).

    Parameters
    ----------
    layers : {18, 34, 50}
        Layers with weights in the paper's count.
    width : int
        Channels of the first stage, 64 in the paper.
    norm, in_channels, size, classes
        As for `resnet20`.

    Raises
    ------
    ModelError
        An argument is out of range.
    """
    require_at_least(1, size=size)
    block, blocks = STAGES[layers]
    return _resnet(block, blocks, size > LARGEST_CIFAR_SIZE, width, norm, in_channels, classes)
