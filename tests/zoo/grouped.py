"""Grouped and depthwise convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zoo.network import Network, noise

TAIL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


class SqueezeExcite(nn.Module):
    """Scales channels by gates computed from their means."""

    def __init__(self, channels: int, inner: int):
        super().__init__()
        self.squeeze, self.excite = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * F.hardsigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))


class InvertedResidual(nn.Module):
    """MobileNet block: 1x1 expansion, depthwise 3x3, squeeze-and-excite, 1x1 projection."""

    def __init__(self, inputs: int, hidden: int, outputs: int, squeezed: int, stride: int):
        super().__init__()
        self.expand, self.bn1 = nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.bn2, self.gates = nn.BatchNorm2d(hidden), SqueezeExcite(hidden, squeezed)
        self.project, self.bn3 = nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.identity = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.relu6(self.bn1(self.expand(x)))
        hidden = self.gates(F.hardswish(self.bn2(self.depthwise(hidden))))
        out = self.bn3(self.project(hidden))
        return x + out if self.identity else out


def mobilenet() -> nn.Module:
    blocks = (InvertedResidual(4, 9, 4, 3, 1), InvertedResidual(4, 10, 6, 2, 2))
    depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    stem = (nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU6(), depthwise)
    return nn.Sequential(*stem, *blocks, nn.Conv2d(6, 7, 1), nn.Hardswish(), *TAIL, nn.Dropout(), nn.Linear(7, 3))


class ConvNext(nn.Module):
    """Depthwise 7x7, LayerNorm and linear layers on channels last, and a scale for each channel."""

    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(channels, channels, 7, padding=3, groups=channels), nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.scale = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(F.gelu(self.up(inner)))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    between = (nn.GroupNorm(1, 6), nn.Conv2d(6, 7, 2, stride=2))
    return nn.Sequential(
        nn.Conv2d(1, 6, 2, stride=2), ConvNext(6, 9), *between, ConvNext(7, 10), *TAIL, nn.Linear(7, 3)
    )


class Bottleneck(nn.Module):
    """ResNeXt block: the 3x3 convolution is grouped."""

    def __init__(self, channels: int, groups: int, inputs: int, outputs: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, groups * inputs, 1, bias=False), nn.BatchNorm2d(groups * inputs)
        self.conv2 = nn.Conv2d(groups * inputs, groups * outputs, 3, padding=1, groups=groups, bias=False)
        self.bn2, self.conv3 = nn.BatchNorm2d(groups * outputs), nn.Conv2d(groups * outputs, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(x + self.conv3(inner))


def resnext() -> nn.Module:
    blocks = (Bottleneck(8, 3, 4, 5), Bottleneck(8, 2, 6, 7))
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), *blocks, *TAIL, nn.Linear(8, 3))


def nested() -> nn.Module:
    """Six groups, then two: three of the six lie in each of the two."""
    convolutions = (nn.Conv2d(12, 24, 3, groups=6), nn.ReLU(), nn.Conv2d(24, 10, 3, groups=2), nn.ReLU())
    return nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), *convolutions, *TAIL, nn.Linear(10, 3))


def multiplied() -> nn.Module:
    """Depthwise with three outputs for each of four channels."""
    depthwise = nn.Conv2d(4, 12, 3, groups=4)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), depthwise, nn.ReLU(), *TAIL, nn.Linear(12, 3))


class ShuffleUnit(nn.Module):
    """Grouped 1x1 convolution, channel shuffle, depthwise 3x3, grouped 1x1 convolution."""

    def __init__(self, sizes: tuple[int, int, int], groups: tuple[int, int], residual: bool):
        super().__init__()
        inputs, inner, outputs = sizes
        self.groups, self.residual = groups[0], residual
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 1, groups=groups[0]), nn.BatchNorm2d(inner)
        self.depthwise, self.bn2 = nn.Conv2d(inner, inner, 3, padding=1, groups=inner), nn.BatchNorm2d(inner)
        self.conv2, self.bn3 = nn.Conv2d(inner, outputs, 1, groups=groups[1]), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        shuffled = inner.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)
        out = self.bn3(self.conv2(self.bn2(self.depthwise(shuffled))))
        return F.relu(x + out) if self.residual else F.relu(out)


def shufflenet(unit: ShuffleUnit) -> nn.Module:
    inputs, outputs = unit.conv1.in_channels, unit.conv2.out_channels
    return nn.Sequential(nn.Conv2d(1, inputs, 3), nn.ReLU(), unit, *TAIL, nn.Linear(outputs, 3))


IMAGE = noise(2, 1, 8, 8)
GROUPED = [
    # Stream 4 (depthwise layers add nothing), hidden 9 and 10 with squeezed 3 and 2, second stream 6, head 7.
    Network("mobilenet", mobilenet, IMAGE, {(size,): 1 for size in (4, 9, 3, 10, 2, 6, 7)}, 7, restarts=4),
    Network("convnext", convnext, IMAGE, {(6,): 1, (9,): 1, (7,): 1, (10,): 1}, 4),
    # Stream 8; for each block its groups, and the inputs and outputs inside each of them.
    Network("resnext", resnext, IMAGE, {(8,): 1, (3,): 1, (4, 3): 1, (5, 3): 1, (2,): 1, (6, 2): 1, (7, 2): 1}, 7),
    # Two outer groups, three inner ones in each; inputs and outputs of each inner one; outputs of each outer one.
    Network(
        "nested grouped convolutions", nested, IMAGE, {(2,): 1, (3, 2): 1, (2, 2, 3): 1, (4, 2, 3): 1, (5, 2): 1}, 5
    ),
    Network("depthwise multiplier", multiplied, IMAGE, {(4,): 1, (3, 4): 1}, 2),
    # 12 = 2 groups x 6; the shuffle makes 18 = 2 x 9 into 9 x 2 = 3 groups x (3 x 2): three channels for each pair of a
    # group before and one behind; 15 = 3 groups x 5.
    Network(
        "shufflenet",
        lambda: shufflenet(ShuffleUnit((12, 18, 15), (2, 3), residual=False)),
        IMAGE,
        {(2,): 1, (6, 2): 1, (3,): 1, (3, 2, 3): 1, (5, 3): 1},
        5,
    ),
    # The shortcut makes groups before and behind the same three. By mathematics channels could also move inside each
    # group, (4, 3), and inside each pair of a group before and one behind, (2, 3, 3). With one group twice in a tensor
    # it is not told which of the two a channel goes with, so channels move alike in all of them.
    Network(
        "shufflenet with shortcut",
        lambda: shufflenet(ShuffleUnit((12, 18, 12), (3, 3), residual=True)),
        IMAGE,
        {(3,): 1, (4,): 1, (2,): 1},
        3,
    ),
]
