"""Convolutional networks in one stream: the built-in ones, shortcuts, concatenations, transposed convolutions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastmatch import networks
from tests.zoo.network import Network, noise

NORMS = ("none", "layer", "batch")


class GroupNormVgg(nn.Sequential):
    """VGG-16 with ``GroupNorm(2, C)``: two exchangeable halves of the channels, and channels inside each."""

    def __init__(self):
        layers: list[nn.Module] = []
        channels = 1
        for stage, count in zip((4, 8, 16, 32, 32), (2, 2, 3, 3, 3), strict=True):
            for _ in range(count):
                layers += [nn.Conv2d(channels, stage, 3, padding=1), nn.GroupNorm(2, stage), nn.ReLU()]
                channels = stage
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
        classifier = (nn.Flatten(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
        super().__init__(*layers, *classifier)


class PaddedBlock(nn.Module):
    """Basic block with the parameter-free shortcut of He et al. (option A): new channels start from zeros."""

    def __init__(self, inputs: int, inner: int, before: int = 0, after: int = 0):
        super().__init__()
        self.stride, self.padding = (2 if before + after else 1), (0, 0, 0, 0, before, after)
        outputs = before + inputs + after
        self.conv1, self.bn1 = nn.Conv2d(inputs, inner, 3, self.stride, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = nn.Conv2d(inner, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)
        return F.relu(self.bn2(self.conv2(inner)) + shortcut)


def padded_resnet(*blocks: PaddedBlock) -> nn.Module:
    outputs = blocks[-1].bn2.num_features
    stem = (nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(outputs, 3))


class DenseLayer(nn.Module):
    """Norm, 1x1 and 3x3 convolutions; the result is appended to the input."""

    def __init__(self, inputs: int, inner: int, growth: int):
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(inner), nn.Conv2d(inner, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        new = self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))
        return torch.cat([x, new], dim=1)


def densenet() -> nn.Module:
    transition = (nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 8, 1, bias=False), nn.AvgPool2d(2))
    tail = (nn.BatchNorm2d(17), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(17, 3))
    dense = (DenseLayer(5, 6, 3), DenseLayer(8, 7, 4), *transition, DenseLayer(8, 10, 9))
    return nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), *dense, *tail)


class Split(nn.Module):
    """Cross-stage partial block: some channels pass by the convolutions that the others go through."""

    def __init__(self):
        super().__init__()
        self.stem, self.join, self.head = nn.Conv2d(1, 10, 3), nn.Conv2d(10, 8, 1), nn.Linear(8, 3)
        self.inner, self.back = nn.Conv2d(6, 7, 3, padding=1), nn.Conv2d(7, 6, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = F.relu(self.stem(x)).split([4, 6], dim=1)
        changed = F.relu(self.back(F.relu(self.inner(changed))))
        return self.head(F.relu(self.join(torch.cat([kept, changed], dim=1))).mean((2, 3)))


def pixel_shuffle() -> nn.Module:
    """Channels become blocks of pixels and back: pixels stay, channels move."""
    middle = (nn.PixelUnshuffle(2), nn.Conv2d(16, 20, 3, padding=1), nn.PixelShuffle(2))
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), *middle, nn.ReLU(), nn.Conv2d(5, 2, 3))


def double(inputs: int, inner: int, outputs: int) -> nn.Module:
    first, second = nn.Conv2d(inputs, inner, 3, padding=1), nn.Conv2d(inner, outputs, 3, padding=1)
    return nn.Sequential(first, nn.BatchNorm2d(inner), nn.ReLU(), second, nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Three ways up (transposed convolution, bilinear, nearest) and skip connections by concatenation."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2, self.down3 = double(1, 4, 5), double(5, 6, 7), double(7, 8, 9)
        self.bottom = nn.Conv2d(9, 15, 1)
        self.up3, self.join3 = nn.ConvTranspose2d(15, 10, 2, stride=2), double(9 + 10, 11, 12)
        self.up2, self.join2 = nn.Conv2d(12, 13, 1), double(7 + 13, 14, 16)
        self.join1 = nn.Conv2d(5 + 16, 17, 3, padding=1)
        self.head = nn.Conv2d(17, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip1 = self.down1(x)
        skip2 = self.down2(F.max_pool2d(skip1, 2))
        skip3 = self.down3(F.max_pool2d(skip2, 2))
        x = F.relu(self.bottom(F.avg_pool2d(skip3, 2)))
        x = self.join3(torch.cat([skip3, self.up3(x)], dim=1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.join2(torch.cat([self.up2(x), skip2], dim=1))
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        return self.head(F.relu(self.join1(torch.cat([skip1, x], dim=1))))


def built_in(model: str, groups: dict[tuple[int, ...], int], total: int) -> Network:
    return Network(model, lambda: networks.build(model), noise(2, *networks.input_shape(model)), groups, total)


SMALL = "in_channels=1, size=8"
# Stem, then two inner groups a block (3, 4, 6, 3 blocks of width 2, 4, 8, 16), then streams of 8, 16, 32 and 64.
RESNET50 = {(2,): 1 + 6, (4,): 8, (8,): 12 + 1, (16,): 6 + 1, (32,): 1, (64,): 1}
CONVOLUTIONAL = [
    # Convolutions of 2, 2, 4, 4, 8, 8, 8 and six times 16 channels, two hidden linear layers of 16.
    *(built_in(f"vgg16(width=2, norm={norm}, {SMALL})", {(2,): 2, (4,): 2, (8,): 3, (16,): 8}, 15) for norm in NORMS),
    # One stream a stage and one inner group a block: 1 + 2 in each of four stages, 1 + 3 in each of three.
    *(
        built_in(f"resnet18(width=2, norm={norm}, {SMALL})", {(2,): 3, (4,): 3, (8,): 3, (16,): 3}, 12)
        for norm in NORMS
    ),
    *(built_in(f"resnet20(norm={norm}, {SMALL})", {(16,): 4, (32,): 4, (64,): 4}, 12) for norm in NORMS),
    *(built_in(f"resnet50(width=2, norm={norm}, {SMALL})", RESNET50, 37) for norm in NORMS),
    # For each of 13 convolutions the two halves, and inside each half C/2 channels; two hidden linear layers.
    Network(
        "vgg16 with GroupNorm(2, C)",
        GroupNormVgg,
        noise(2, 1, 8, 8),
        {(2,): 13, (2, 2): 2, (4, 2): 2, (8, 2): 3, (16, 2): 6, (32,): 2},
        28,
    ),
    # First stream, the channels that each padding adds, three inner groups.
    Network(
        "resnet with zero padding behind",
        lambda: padded_resnet(PaddedBlock(4, 9), PaddedBlock(4, 10, after=3), PaddedBlock(7, 11, after=5)),
        noise(2, 1, 8, 8),
        {(4,): 1, (3,): 1, (5,): 1, (9,): 1, (10,): 1, (11,): 1},
        6,
    ),
    # New channels before and behind the old ones are two groups: a group is one stretch of an axis.
    Network(
        "resnet with zero padding on both sides",
        lambda: padded_resnet(PaddedBlock(4, 9), PaddedBlock(4, 10, before=2, after=3)),
        noise(2, 1, 8, 8),
        {(4,): 1, (2,): 1, (3,): 1, (9,): 1, (10,): 1},
        5,
    ),
    # Stem 5, growths 3, 4 and 9 with inner groups 6, 7 and 10, transition 8.
    Network("densenet", densenet, noise(2, 1, 8, 8), {(size,): 1 for size in (5, 3, 4, 9, 6, 7, 10, 8)}, 8),
    # Channels that pass by, those that go in, inside, those that come out, joined.
    Network("channel split", Split, noise(2, 1, 8, 8), {(4,): 1, (6,): 2, (7,): 1, (8,): 1}, 5),
    Network("pixel shuffle", pixel_shuffle, noise(2, 1, 8, 8), {(4,): 1, (5,): 1}, 2),
    # Every convolution but the last has channels of its own.
    Network("unet", UNet, noise(2, 1, 8, 8), {(size,): 1 for size in range(4, 18)}, 14),
]
