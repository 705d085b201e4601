"""Residual networks, with torchvision's parameter names.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from functools import partial

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


class ResNet(nn.Module):
    """A stem, stages of blocks that halve the map and double the channels, global average pooling, a linear layer."""

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        blocks: tuple[int, ...],
        width: int,
        norm: str,
        in_channels: int,
        size: int,
        classes: int,
    ) -> None:
        super().__init__()
        require_at_least(1, width=width, in_channels=in_channels, size=size, classes=classes)
        small = size <= LARGEST_CIFAR_SIZE
        self.conv1 = _conv(in_channels, width, 3 if small else 7, 1 if small else 2, norm)
        self.bn1 = norm_2d(norm, width)
        self.relu = nn.ReLU()
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = len(blocks)
        inputs = width
        for stage, count in enumerate(blocks):
            channels = width * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            layer = nn.Sequential()
            for stride in strides:
                layer.append(block(inputs, channels, stride, norm))
                inputs = block.expansion * channels
            self.add_module(f"layer{stage + 1}", layer)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[N, in_channels, size, size] -> logits [N, classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def _conv(inputs: int, outputs: int, kernel: int, stride: int, norm: str) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=norm == "none")


def _shortcut(inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(_conv(inputs, outputs, 1, stride, norm), norm_2d(norm, outputs))


def resnet20(
    width: int = 1, norm: str = "layer", in_channels: int = 3, size: int = 32, classes: int = 10
) -> nn.Module:
    """ResNet-20 for CIFAR (section 4.2), with projection shortcuts where the shape changes.

    Parameters
    ----------
    width : int
        Multiplies the 16, 32 and 64 channels of the three stages, as in Git Re-Basin.
    norm : {"none", "layer", "batch"}
        Norm after each convolution; convolutions have a bias only without one.
    in_channels, size, classes : int
        Inputs are [N, in_channels, size, size]; sizes above 64 get the stem of ImageNet networks.

    Raises
    ------
    ModelError
        An argument is out of range.
    """
    require_at_least(1, width=width)
    return ResNet(BasicBlock, (3, 3, 3), 16 * width, norm, in_channels, size, classes)


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: tuple[int, ...],
    width: int = 64,
    norm: str = "batch",
    in_channels: int = 3,
    size: int = 32,
    classes: int = 10,
) -> nn.Module:
    """Networks of table 1: ``width`` channels in the first stage; otherwise as `resnet20`."""
    return ResNet(block, blocks, width, norm, in_channels, size, classes)


resnet18 = partial(_resnet, BasicBlock, (2, 2, 2, 2))
resnet34 = partial(_resnet, BasicBlock, (3, 4, 6, 3))
resnet50 = partial(_resnet, Bottleneck, (3, 4, 6, 3))
