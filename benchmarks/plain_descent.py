"""Straight-through descent as one would write it at first, to compare with."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from benchmarks.trained import State
from fastmatch import PermutationSpec, Split
from fastmatch.matching.learning import Run
from fastmatch.matching.straight_through import MEMORY, RATE, SCALE_MEMORY

Indices = dict[str, np.ndarray]


def permuted(spec: PermutationSpec, state: State, indices: Indices) -> State:
    """Copy of a network whose groups are whole axes, with its units in another order."""
    result = dict(state)
    for group in spec.groups:
        for place in group.occurrences:
            # A convolution's channels are blocks of columns where it is flattened.
            inside = state[place.tensor].shape[place.axis] // group.size
            index = (indices[group.name][:, None] * inside + np.arange(inside)).ravel()
            result[place.tensor] = result[place.tensor].index_select(place.axis, torch.from_numpy(index))
    return result


def gradients(
    spec: PermutationSpec, module: nn.Module, a: State, b: State, indices: Indices, alpha: float, batch: Split
) -> dict[str, np.ndarray]:
    """Gradient of the loss of the mixture by the assignment of every group, units of a by units of b as given."""
    aligned = permuted(spec, b, indices)
    mixed = _mixed(a, aligned, alpha)
    names = [name for name, _ in module.named_parameters()]
    for name in names:
        mixed[name].requires_grad_()
    loss = F.cross_entropy(functional_call(module, mixed, (batch.inputs,)), batch.labels)
    found = dict(zip(names, torch.autograd.grad(loss, [mixed[name] for name in names]), strict=True))
    result = {}
    for group in spec.groups:
        total = torch.zeros(group.size, group.size)
        for place in group.occurrences:
            if place.tensor in found:
                first, second = (_units(side[place.tensor], place.axis, group.size) for side in (found, aligned))
                total += first @ second.T
        result[group.name] = (alpha * total)[:, torch.from_numpy(np.argsort(indices[group.name]))].numpy()
    return result


def _units(tensor: Tensor, axis: int, size: int) -> Tensor:
    return tensor.movedim(axis, 0).reshape(size, -1)


def descend(
    run: Run, start: Indices, matrices: Indices, *, steps: int, batch: int, every: int, held: int
) -> tuple[Indices, float]:
    """Best index arrays and their loss half-way; all in one loop, LAPs by scipy, one network after the other."""
    spec, module, a, b = run.spec, run.module, run.a, run.b
    judged, fit = run.fit.take(held), Split(run.fit.inputs[held:], run.fit.labels[held:])
    modes = [(child, child.training) for child in module.modules()]
    module.train()  # BatchNorm by the statistics of the batch; these networks have no dropout
    generator = np.random.default_rng(run.seed)
    order = generator.permutation(len(fit))
    similarity = {name: matrix.copy() for name, matrix in matrices.items()}
    mean = {name: np.zeros_like(matrix) for name, matrix in matrices.items()}
    square = dict.fromkeys(matrices, 0.0)
    indices, kept, best = start, start, _half_way(run, start, judged)
    for step in range(steps):
        places = torch.from_numpy(order[np.arange(step * batch, (step + 1) * batch) % len(order)])
        alpha = generator.uniform(0.3, 0.7) if step % 2 else 0.5
        found = gradients(spec, module, a, b, indices, alpha, Split(fit.inputs[places], fit.labels[places]))
        for name, gradient in found.items():
            mean[name] = MEMORY * mean[name] + (1 - MEMORY) * gradient
            square[name] = SCALE_MEMORY * square[name] + (1 - SCALE_MEMORY) * float((gradient**2).mean())
            scale = np.sqrt(square[name] / (1 - SCALE_MEMORY ** (step + 1))) * (1 - MEMORY ** (step + 1))
            similarity[name] -= RATE * (1 - step / steps) * mean[name] / scale
        indices = {name: linear_sum_assignment(matrix, maximize=True)[1] for name, matrix in similarity.items()}
        if (step + 1) % every == 0 or step + 1 == steps:
            loss = _half_way(run, indices, judged)
            if loss < best:
                kept, best = indices, loss
    for child, mode in modes:
        child.training = mode
    return kept, best


@torch.no_grad()
def _half_way(run: Run, indices: Indices, held: Split) -> float:
    mixed = _mixed(run.a, permuted(run.spec, run.b, indices), 0.5)
    return float(F.cross_entropy(functional_call(run.module, mixed, (held.inputs,)), held.labels))


def _mixed(a: State, b: State, alpha: float) -> State:
    return {
        name: (1 - alpha) * tensor + alpha * b[name] if tensor.is_floating_point() else tensor.clone()
        for name, tensor in a.items()
    }
