"""Initial weights from a seed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fastmatch.networks import build
from fastmatch.training.recipe import Recipe
from fastmatch.training.seeding import seeded

_SCHEMES: dict[str, Callable[..., torch.Tensor]] = {
    "kaiming_normal": nn.init.kaiming_normal_,
    "kaiming_uniform": nn.init.kaiming_uniform_,
}


def initialise(model: str | Callable[[], nn.Module], init: str = "default", seed: int = 0) -> nn.Module:
    """Build a network whose initial weights follow from ``seed`` alone; torch's global random state stays untouched.

    Parameters
    ----------
    model : str or callable
        A model string, or a function that builds the network.
    init : str
        ``default`` keeps what the layers' constructors draw. ``kaiming_normal`` and ``kaiming_uniform`` (He et al.
        2015, fan-in, gain of ReLU) redraw the weights of linear and convolution layers, set their biases to 0, and
        norms to scale 1 and shift 0.
    seed : int
        Of all initial weights.

    Raises
    ------
    ModelError
        The model string is unknown or malformed.
    OptionError
        ``init`` is unknown.
    """
    Recipe(init=init)
    with seeded(seed, torch.device("cpu")):
        module = build(model) if isinstance(model, str) else model()
        if init != "default":
            module.apply(lambda layer: _reset(layer, _SCHEMES[init]))
    return module


def _reset(layer: nn.Module, scheme: Callable[..., torch.Tensor]) -> None:
    if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        scheme(layer.weight, mode="fan_in", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.LayerNorm | nn.GroupNorm | _BatchNorm):
        layer.reset_parameters()
