"""The shallow convolutional networks of Entezari et al."""

from __future__ import annotations

from torch import nn

from fastmatch.networks.arguments import norm_1d, norm_2d, require_at_least

KERNEL, STRIDE, PADDING = 9, 2, 1


def shallow_cnn(
    width: int = 64, depth: int = 2, norm: str = "none", in_channels: int = 3, size: int = 32, classes: int = 10
) -> nn.Module:
    """Shallow CNN: ``depth`` hidden layers of ``width`` units, then a linear classifier.

    The first layer is a 9x9 convolution of stride 2, the last hidden layer sees the whole map, and what is between
    them are 3x3 convolutions. The authors' code writes the last hidden layer as a convolution whose kernel covers the
    map (13x13 for images of 32x32); here it is the linear layer on the flattened map [N, width * H * W] that computes
    the same, as in the S-CONV network it comes from.

    Parameters
    ----------
    width, depth : int
        Units of every hidden layer; number of hidden layers, at least 2.
    norm : {"none", "layer", "batch"}
        Norm of each hidden layer, before its ReLU; ``none`` in the paper.
    in_channels, size, classes : int
        Inputs are [N, in_channels, size, size] with ``size`` at least 7.

    Raises
    ------
    ModelError
        An argument is out of range.

    References
    ----------
    Entezari et al., "The Role of Permutation Invariance in Linear Mode Connectivity of Neural Networks", ICLR 2022,
    section 2.2; Neyshabur, "Towards Learning Convolutions from Scratch", NeurIPS 2020.
    """
    require_at_least(1, width=width, in_channels=in_channels, classes=classes)
    require_at_least(2, depth=depth)
    require_at_least(KERNEL - 2 * PADDING, size=size)
    network = nn.Sequential()
    for number in range(1, depth):
        conv = nn.Conv2d(width, width, 3, padding=1)
        if number == 1:
            conv = nn.Conv2d(in_channels, width, KERNEL, STRIDE, PADDING)
        network.add_module(f"conv{number}", conv)
        network.add_module(f"norm{number}", norm_2d(norm, width))
        network.add_module(f"relu{number}", nn.ReLU())
    network.add_module("flatten", nn.Flatten())
    network.add_module("linear1", nn.Linear(width * map_size(size) ** 2, width))
    network.add_module(f"norm{depth}", norm_1d(norm, width))
    network.add_module(f"relu{depth}", nn.ReLU())
    network.add_module("linear2", nn.Linear(width, classes))
    return network


def map_size(size: int) -> int:
    """Side of the maps that images of side ``size`` become."""
    return (size + 2 * PADDING - KERNEL) // STRIDE + 1


def image_size(side: int) -> int:
    """Largest size of the images that become maps of side ``side``, which is an even number."""
    return STRIDE * side + KERNEL - 2 * PADDING - 1
