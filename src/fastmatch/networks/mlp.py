"""Multilayer perceptrons."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from fastmatch.errors import ModelError
from fastmatch.networks.arguments import norm_1d, require_at_least, require_norm


def mlp(*widths: int, norm: str = "none") -> nn.Module:
    """Linear layers with ReLU between them.

    Parameters
    ----------
    *widths : int
        Input features, hidden units of each layer, classes. Inputs [N, ...] are flattened to [N, features].
    norm : {"none", "layer", "batch"}
        Norm of each hidden layer, before its ReLU.

    Raises
    ------
    ModelError
        Fewer than two widths, a width below 1, or an unknown norm.
    """
    if len(widths) < 2:
        raise ModelError("mlp needs its input features and its classes at least, as in mlp(784, 512, 10)")
    require_at_least(1, width=min(widths))
    require_norm(norm)
    network = nn.Sequential()
    network.add_module("flatten", nn.Flatten())
    for number, (inputs, units) in enumerate(pairwise(widths[:-1]), start=1):
        network.add_module(f"linear{number}", nn.Linear(inputs, units))
        network.add_module(f"norm{number}", norm_1d(norm, units))
        network.add_module(f"relu{number}", nn.ReLU())
    network.add_module(f"linear{len(widths) - 1}", nn.Linear(widths[-2], widths[-1]))
    return network
