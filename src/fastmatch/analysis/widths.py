"""Networks of one architecture and unlike widths: units left out, and units that do nothing put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.errors import ModelError, OptionError, SymmetryError
from fastmatch.interpolation.evaluator import check_networks
from fastmatch.symmetry import PermutationSpec, TensorLayout, same_function

State = Mapping[str, Tensor]


def pad(
    spec: PermutationSpec, wide: nn.Module, small: nn.Module, state: State, inputs: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Widen a network with units whose incoming and outgoing weights are 0, behind its own.

    That the function stays the same is tried out: it does not where a normalisation or a mean is taken over the units
    (LayerNorm), or their number counts (the scale of attention).

    Parameters
    ----------
    spec
        Of the wide network.
    wide, small
        The architecture in both widths; their own weights are neither used nor changed. They run in evaluation mode.
    state
        State dict of the narrow one.
    inputs
        Arguments of both for the trial, batch axis first, where ``state`` is.

    Raises
    ------
    ModelError
        ``state`` is not that of ``small``, or not of a narrower network of that architecture.
    SymmetryError
        Padding changes the function.
    """
    check_networks(small, [state])
    if state.keys() != spec.tensors.keys():
        raise ModelError("the narrow network has other tensors than the wide one; pad networks of one architecture")
    widths = {
        group: state[name].shape[axis]
        for name, layout in spec.tensors.items()
        if state[name].dim() == len(layout.shape)
        for axis in range(len(layout.shape))
        if (group := layout.mover(axis, spec.bases)) is not None
    }
    first = {name: np.arange(width) for name, width in widths.items()}
    result = {name: _padded(name, state[name], layout, first) for name, layout in spec.tensors.items()}
    if not (found := same_function(small, state, result, inputs, other=wide)).passed:
        raise SymmetryError(
            f"padding changes the function: outputs by {found.max_rel:.1e} relative; units that are 0 take part in a "
            "normalisation, a mean or a scale, or what stands behind them is not finite"
        )
    return result


def _padded(name: str, tensor: Tensor, layout: TensorLayout, first: Mapping[str, np.ndarray]) -> Tensor:
    places = [_positions(layout, axis, first) for axis in range(len(layout.shape))]
    if tuple(tensor.shape) != tuple(map(len, places)):
        raise ModelError(
            f"{name!r} has shape {tuple(tensor.shape)}, which does not fit into {layout.shape} with units left over"
        )
    for axis, index in enumerate(places):
        if len(index) < layout.shape[axis]:
            wide = tensor.new_zeros((*tensor.shape[:axis], layout.shape[axis], *tensor.shape[axis + 1 :]))
            tensor = wide.index_copy_(axis, torch.from_numpy(index).to(tensor.device), tensor)
    return tensor.clone()


def narrow(spec: PermutationSpec, state: State, kept: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Leave out all units but some: a state dict of the narrower architecture.

    Parameters
    ----------
    kept
        Group -> numbers of the units that stay, int64, ascending; groups that are left out stay whole.

    Raises
    ------
    SymmetryError
        There is no such group.
    OptionError
        A group has no such unit.
    """
    for name, units in kept.items():
        size = spec.group(name).size
        if len(units) and not 0 <= min(units) <= max(units) < size:
            raise OptionError(f"group {name!r} has units 0 to {size - 1}, not {min(units)} to {max(units)}")
    result = dict(state)
    for name, layout in spec.tensors.items():
        for axis, size in enumerate(layout.shape):
            if len(index := _positions(layout, axis, kept)) < size:
                result[name] = result[name].index_select(axis, torch.from_numpy(index).to(result[name].device))
    return result


def _positions(layout: TensorLayout, axis: int, kept: Mapping[str, np.ndarray]) -> np.ndarray:
    """Positions on an axis that belong to units that are kept, or to none."""
    stays = np.ones(layout.shape[axis], dtype=bool)
    for box in layout.axes[axis]:
        for place, factor in enumerate(box.factors):
            if factor.group is not None and factor.group in kept:
                gone = np.setdiff1d(np.arange(factor.size), kept[factor.group])
                stays[np.take(box.positions(), gone, axis=place).ravel()] = False
    return np.flatnonzero(stays)
