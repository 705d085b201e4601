"""Networks with barriers between them."""

import functools

import torch

from fastmatch import Permutation, trace
from fastmatch.training import Recipe, initialise, train


@functools.cache
def trained(model, digits):
    """A network that knows the digits, and its spec."""
    module = initialise(model, seed=0)
    train(module, digits, Recipe(epochs=5, batch_size=64, lr=1e-2))
    return module.eval(), trace(module, (digits.train.inputs[:2],))


def shuffled(model, digits, seed):
    """A permutation of its units."""
    return Permutation.random(trained(model, digits)[1], seed)


@functools.cache
def population(model, digits, count=4):
    """The network, and state dicts of it: as it is, its units moved, and nearly the same with units moved."""
    module, _ = trained(model, digits)
    states = [module.state_dict(), shuffled(model, digits, 1).apply(module.state_dict())]
    for seed in range(2, count):
        generator = torch.Generator().manual_seed(seed)
        moved = shuffled(model, digits, seed).apply(module.state_dict())
        for name, tensor in moved.items():
            if tensor.is_floating_point() and "running" not in name:
                tensor.add_(0.03 * torch.randn(tensor.shape, generator=generator))
        states.append(moved)
    return module, states[:count]
