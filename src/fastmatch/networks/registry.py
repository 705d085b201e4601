"""Model strings: which networks there are, and how one is built."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from fastmatch.errors import ModelError
from fastmatch.networks.mlp import mlp
from fastmatch.networks.resnet import STAGES, resnet, resnet20
from fastmatch.networks.shallow_cnn import shallow_cnn
from fastmatch.networks.vgg import CONVOLUTIONS, vgg
from fastmatch.strings import bind, invoke, is_factory, load_factory, parse_call

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "mlp": mlp,
    "shallow_cnn": shallow_cnn,
    **{f"vgg{layers}": partial(vgg, layers) for layers in CONVOLUTIONS},
    "resnet20": resnet20,
    **{f"resnet{layers}": partial(resnet, layers) for layers in STAGES},
}


def build(model: str) -> nn.Module:
    """Build the network that ``model`` names, freshly initialised and in training mode.

    Parameters
    ----------
    model : str
        A built-in network as in ``resnet20(width=4, norm=batch)``, or a factory of the user that returns a
        `torch.nn.Module`: ``package.module:function`` or ``path/file.py:function``; building that runs its code.

    Raises
    ------
    ModelError
        The string is malformed or names no network, an argument is out of range, the network does not fit in memory,
        or the factory fails or returns something else.
    """
    if is_factory(model):
        network = load_factory(model, ModelError)()
        if not isinstance(network, nn.Module):
            raise ModelError(f"{model} returned {type(network).__name__}; it must return a torch.nn.Module")
        return network
    call = parse_call(model, ModelError)
    try:
        return invoke(call, _network(call.name), ModelError)
    except (RuntimeError, TypeError, MemoryError) as reason:  # what torch raises for sizes beyond memory or int64
        raise ModelError(f"{model} cannot be built on this machine; choose a smaller width") from reason


def is_builtin(model: str) -> bool:
    """Whether ``model`` names a network of this package; its arguments are not checked."""
    try:
        return parse_call(model, ModelError).name in NETWORKS
    except ModelError:
        return False


def input_shape(model: str) -> tuple[int, ...] | None:
    """Shape of one input of a built-in network, as in (784,) or (3, 32, 32); None for a factory.

    Raises
    ------
    ModelError
        The string is malformed, names no network or has arguments that it does not take.
    """
    if is_factory(model):
        return None
    call = parse_call(model, ModelError)
    arguments = bind(call, _network(call.name), ModelError).arguments
    if call.name == "mlp":
        return arguments["widths"][:1]
    return (arguments["in_channels"], arguments["size"], arguments["size"])


def _network(name: str) -> Callable[..., nn.Module]:
    if name not in NETWORKS:
        raise ModelError(
            f"unknown network {name!r}; choose one of {', '.join(NETWORKS)}, "
            "or name your own factory as package.module:function or path/file.py:function"
        )
    return NETWORKS[name]
