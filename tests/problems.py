"""The table of networks that specs, certificates and matching are tested on, with what must come out."""

from typing import NamedTuple

import torch
from torch import Tensor

from fastmatch import networks


class Problem(NamedTuple):
    model: str
    groups: int


CONVOLUTIONAL = "in_channels=1, size=8"
PROBLEMS = [
    Problem("mlp(64, 24, 20, 10)", 2),
    Problem("mlp(64, 24, 20, 10, norm=layer)", 2),
    Problem("mlp(64, 24, 20, 10, norm=batch)", 2),
    *(Problem(f"shallow_cnn(width=8, norm={norm}, in_channels=1, size=12)", 2) for norm in ("none", "layer", "batch")),
    *(Problem(f"vgg11(width=4, norm={norm}, {CONVOLUTIONAL})", 10) for norm in ("none", "layer", "batch")),
    Problem(f"vgg13(width=4, {CONVOLUTIONAL})", 12),
    *(Problem(f"vgg16(width=4, norm={norm}, {CONVOLUTIONAL})", 15) for norm in ("none", "layer", "batch")),
    Problem(f"vgg19(width=4, norm=layer, {CONVOLUTIONAL})", 18),
    *(Problem(f"resnet20(width=1, norm={norm}, {CONVOLUTIONAL})", 12) for norm in ("none", "layer", "batch")),
    *(Problem(f"resnet18(width=8, norm={norm}, {CONVOLUTIONAL})", 12) for norm in ("none", "layer", "batch")),
    Problem(f"resnet34(width=8, norm=layer, {CONVOLUTIONAL})", 20),
    *(Problem(f"resnet50(width=8, norm={norm}, {CONVOLUTIONAL})", 37) for norm in ("none", "layer", "batch")),
]
MODELS = [problem.model for problem in PROBLEMS]


def build(model: str, seed: int = 0) -> torch.nn.Module:
    """A built-in network with the random weights of one seed, in evaluation mode."""
    torch.manual_seed(seed)
    return networks.build(model).eval()


def example(model: str, count: int = 2) -> tuple[Tensor]:
    """Standard normal inputs of the right shape."""
    return (torch.randn(count, *networks.input_shape(model), generator=torch.Generator().manual_seed(1)),)


def assert_same_state(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0, msg=name)
