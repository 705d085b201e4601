"""Which built-in network a state dict belongs to.

A few telltale tensors give the arguments each network would need; the network built from them (on the meta device,
so without memory) must then have exactly the names and shapes of the state dict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count, takewhile
from math import isqrt

import torch

from fastmatch.errors import ModelError
from fastmatch.networks.arguments import NORMS
from fastmatch.networks.registry import build
from fastmatch.networks.resnet import STAGES
from fastmatch.networks.shallow_cnn import image_size
from fastmatch.networks.vgg import CONVOLUTIONS, MULTIPLIERS

Shapes = dict[str, tuple[int, ...]]


def recognise(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Find the built-in network whose names and shapes are those of ``state_dict``.

    Weights do not tell everything. The image size of networks that pool it away is taken as 28 for one input channel
    and 32 otherwise (224 for residual networks with the large stem), other sizes of `vgg` as the largest that gives
    its map and those of `shallow_cnn` as the even one; the norm of an `mlp` without hidden layer as ``none``. The
    function computed is the same.

    Returns
    -------
    str
        A model string with all arguments, as in ``resnet20(width=1, norm=layer, in_channels=3, size=32, classes=10)``.

    Raises
    ------
    ModelError
        No built-in network fits; the message names the nearest one and where it differs.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    differences = {model: _differences(shapes, model) for model in _candidates(shapes)}
    if not differences:
        raise ModelError(
            f"the weights ({', '.join(list(shapes)[:3])}, ...) are of no built-in network; name theirs with --model"
        )
    nearest = min(differences, key=lambda model: len(differences[model]))
    if differences[nearest]:
        raise ModelError(
            f"the weights are of no built-in network: {nearest} comes nearest but differs at "
            f"{', '.join(differences[nearest][:3])}; name theirs with --model"
        )
    return nearest


def _differences(shapes: Shapes, model: str) -> list[str]:
    expected: Shapes = {}
    with suppress(ModelError), torch.device("meta"):  # arguments read off foreign weights may be out of range
        expected = {name: tuple(tensor.shape) for name, tensor in build(model).state_dict().items()}
    names = list(shapes | expected)
    return [name for name in names if shapes.get(name) != expected.get(name)]


def _candidates(shapes: Shapes) -> Iterator[str]:
    for family in (_mlp, _shallow_cnn, _vgg, _resnet):
        for norm in NORMS:
            yield from family(shapes, norm)


def _mlp(shapes: Shapes, norm: str) -> Iterator[str]:
    names = takewhile(shapes.__contains__, (f"linear{number}.weight" for number in count(1)))
    weights = [shapes[name] for name in names]
    if weights and "conv1.weight" not in shapes and all(len(shape) == 2 for shape in weights):
        widths = [weights[0][1], *(shape[0] for shape in weights)]
        yield f"mlp({', '.join(map(str, widths))}, norm={norm})"


def _shallow_cnn(shapes: Shapes, norm: str) -> Iterator[str]:
    match shapes:
        case {
            "conv1.weight": (width, channels, 9, 9),
            "linear1.weight": (_, features),
            "linear2.weight": (classes, _),
        } if width > 0:
            depth = 1 + len([name for name in shapes if re.fullmatch(r"conv\d+\.weight", name)])
            size = image_size(isqrt(features // width))
            yield f"shallow_cnn(width={width}, depth={depth}, {_rest(norm, channels, size, classes)})"


def _vgg(shapes: Shapes, norm: str) -> Iterator[str]:
    match shapes:
        case {
            "conv1.weight": (width, channels, 3, 3),
            "linear1.weight": (_, features),
            "linear3.weight": (classes, _),
        } if width > 0:
            side = isqrt(features // (MULTIPLIERS[-1] * width))
            size = 32 * side if side > 1 else _pooled_size(channels)
            for layers in CONVOLUTIONS:
                yield f"vgg{layers}(width={width}, {_rest(norm, channels, size, classes)})"


def _resnet(shapes: Shapes, norm: str) -> Iterator[str]:
    match shapes:
        case {"conv1.weight": (width, channels, kernel, _), "fc.weight": (classes, _)}:
            size = 224 if kernel == 7 else _pooled_size(channels)
            rest = _rest(norm, channels, size, classes)
            yield f"resnet20(width={width // 16}, {rest})"
            for layers in STAGES:
                yield f"resnet{layers}(width={width}, {rest})"


def _pooled_size(channels: int) -> int:
    return 28 if channels == 1 else 32


def _rest(norm: str, channels: int, size: int, classes: int) -> str:
    return f"norm={norm}, in_channels={channels}, size={size}, classes={classes}"
