"""Narrow convolutional networks, whose barriers tell matching methods apart: trained once, kept in a folder."""

from __future__ import annotations

import functools
import re
from dataclasses import replace

from torch.nn import functional as F

import fastmatch
from benchmarks.trained import CACHE, State
from fastmatch import checkpoints, training

_RESNET = training.Recipe(epochs=5, lr=3e-3, warmup=1.0, batch_size=64)
_VGG = training.Recipe(epochs=5, lr=5e-4, warmup=1.0, batch_size=64, init="kaiming_normal")
RECIPES = {"resnet20": _RESNET, "vgg16": _VGG}
# Name -> model string and data; MNIST at 14 x 14 for ResNets, whose strides leave enough of it.
KINDS = {
    "ResNet-20 LN": ("resnet20(width=1, norm=layer, in_channels=1, size=14)", "mnist14"),
    "ResNet-20 BN": ("resnet20(width=1, norm=batch, in_channels=1, size=14)", "mnist14"),
    "VGG-16 LN": ("vgg16(width=16, norm=layer, in_channels=1, size=28)", "mnist"),
    "ResNet-20 LN, CIFAR-10": ("resnet20(width=1, norm=layer)", "cifar10"),
    "ResNet-20 BN, CIFAR-10": ("resnet20(width=1, norm=batch)", "cifar10"),
    "VGG-16 LN, CIFAR-10": ("vgg16(width=16, norm=layer)", "cifar10"),
}
LIMITS = {"mnist14": 20_000, "mnist": 10_000, "cifar10": 10_000}


@functools.cache
def data(name: str) -> fastmatch.DataSet:
    """MNIST, MNIST averaged over 2 x 2 pixels (``mnist14``) or CIFAR-10: a fixed subset of the training examples."""
    whole = fastmatch.load_data(name.removesuffix("14"))
    whole = replace(whole, train=whole.train.take(LIMITS[name]))
    if name != "mnist14":
        return whole
    train, test = (replace(part, inputs=F.avg_pool2d(part.inputs, 2)) for part in (whole.train, whole.test))
    return replace(whole, name=name, train=train, test=test)


def network(kind: str, seed: int) -> State:
    """State dict of a trained network; initial weights and order of the data have this seed."""
    model, name = KINDS[kind]
    path = CACHE / (re.sub(r"\W+", "-", f"{name} {model} {seed}") + ".safetensors")
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        recipe = replace(RECIPES[model.partition("(")[0]], init_seed=seed, order_seed=seed)
        module = training.initialise(model, recipe.init, seed)
        training.train(module, data(name), recipe)
        checkpoints.write(path, module.state_dict())
    return checkpoints.read(path).state_dict
