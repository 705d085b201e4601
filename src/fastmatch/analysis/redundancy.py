"""Units that compute the same feature: found, and merged into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.analysis.widths import narrow
from fastmatch.errors import OptionError, SymmetryError
from fastmatch.symmetry import Group, Occurrence, PermutationSpec, same_function

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Reduction:
    """A network whose redundant units were merged.

    Attributes
    ----------
    state
        Of the same architecture and width; incoming and outgoing weights of units that were merged are 0.
    kept
        Group -> numbers of the units that are left, int64, ascending.
    narrow
        Without the others: a state dict of the architecture of that width.
    """

    state: dict[str, Tensor]
    kept: Mapping[str, np.ndarray]
    narrow: dict[str, Tensor]

    @property
    def widths(self) -> dict[str, int]:
        """Number of units left in each group."""
        return {name: len(units) for name, units in self.kept.items()}

    def to_json(self) -> dict[str, Any]:
        """Plain data: the units that are left."""
        return {"kept": {name: units.tolist() for name, units in self.kept.items()}}


def unit_similarity(spec: PermutationSpec, state: State, group: str) -> Tensor:
    """Cosine similarity of the features that units compute, float64, shape [units, units], symmetric.

    A feature is the vector of all incoming weights of a unit and its bias. Units without any resemble none, and not
    themselves.

    Raises
    ------
    SymmetryError
        There is no such group, or its units are not those of whole axes of linear and convolution layers.
    """
    vectors = _features(state, _roles(spec, spec.group(group))[0])
    return _cosines(vectors)


@torch.no_grad()
def merge_units(
    spec: PermutationSpec,
    module: nn.Module,
    state: State,
    inputs: Sequence[Tensor],
    *,
    threshold: float = 0.99,
    groups: Sequence[str] | None = None,
) -> Reduction:
    """Merge units whose features point the same way into one that speaks for all.

    A ReLU unit whose incoming weights and bias are ``factor`` times those of another is, for any positive factor,
    ``factor`` times that unit: it can go when its outgoing weights, times the factor, are added to those of the other.
    Units are visited from the largest product of the norms of their incoming and outgoing weights to the smallest; each
    takes in all units left whose similarity exceeds ``threshold``, with the ratio of norms as factor. Groups follow
    each other from the inputs to the outputs.

    That merging does not change the function is tried out for each group, on these weights with multiples of units
    planted: it does where something other than ReLU stands behind the units, or a normalisation.

    Parameters
    ----------
    spec
        The groups of ``module``; linear layers and channels of convolutions can be merged.
    state
        State dict.
    inputs
        Arguments of ``module`` for the trial, batch axis first.
    threshold
        Cosine similarity, at least 0 and below 1.
    groups
        Names; all if None.

    Raises
    ------
    OptionError
        The threshold is out of range.
    SymmetryError
        Units of a group cannot be merged.
    PermutationError
        The state dict does not fit the spec.

    References
    ----------
    Petzka et al. 2020, "Notes on the symmetries of 2-layer ReLU networks"; Kalaivanan 2023, section 5.1.
    """
    if not 0 <= threshold < 1:
        raise OptionError(f"threshold {threshold} is out of range; a cosine similarity is at least 0 and below 1")
    spec.check_state(state)
    result = {name: tensor.clone() for name, tensor in state.items()}
    kept: dict[str, np.ndarray] = {}
    for group in [spec.group(name) for name in groups] if groups is not None else spec.groups:
        _require_mergeable(spec, group, module, state, inputs)
        factors = _factors(result, _roles(spec, group), threshold)
        _merge(result, _roles(spec, group), factors)
        kept[group.name] = factors.any(1).nonzero()[:, 0].cpu().numpy()
    return Reduction(result, kept, narrow(spec, result, kept))


Roles = tuple[tuple[Occurrence, ...], tuple[Occurrence, ...]]


def _roles(spec: PermutationSpec, group: Group) -> Roles:
    """Places of incoming and of outgoing weights: torch's layers have their outputs on axis 0, their inputs on axis 1.

    A vector is a bias only beside such weights, in their module: others are gains, or biases of other layers. Whether
    the layers of a network are such ones is for the trial to say.
    """
    places = spec.matched(group)
    incoming = tuple(place for place in places if place.axis == 0)
    outgoing = tuple(place for place in places if place.axis == 1)
    weights = {_module(place) for place in incoming if len(spec.tensors[place.tensor].shape) > 1}
    whole = len(incoming) + len(outgoing) == len(group.occurrences)
    if group.base or not outgoing or not whole or {_module(place) for place in incoming} != weights or not weights:
        raise SymmetryError(f"units of group {group.name!r} are not those of linear or convolution layers alone")
    return incoming, outgoing


def _module(place: Occurrence) -> str:
    return place.tensor.rpartition(".")[0]


def _features(state: State, incoming: Sequence[Occurrence]) -> Tensor:
    return torch.cat([place.units(state[place.tensor]).double() for place in incoming], 1)


def _cosines(vectors: Tensor) -> Tensor:
    norms = vectors.norm(dim=1, keepdim=True)
    unit = vectors / torch.where(norms > 0, norms, 1.0)
    cosines = unit @ unit.T
    return ((cosines + cosines.T) / 2).clamp(-1.0, 1.0)


def _factors(state: State, roles: Roles, threshold: float) -> Tensor:
    """By how much the units left (rows) stand for all units (columns), float64; rows of units that go are 0."""
    vectors, outgoing = (_features(state, places) for places in roles)
    norms, close = vectors.norm(dim=1), (_cosines(vectors) > threshold).cpu()
    factors = torch.eye(len(norms), dtype=torch.float64, device=norms.device)
    left = torch.ones(len(norms), dtype=torch.bool)
    for unit in (norms * outgoing.norm(dim=1)).argsort(descending=True, stable=True).tolist():
        if left[unit]:
            left[unit] = False
            taken = (close[unit] & left).to(norms.device)
            factors[unit, taken], factors[taken, taken] = norms[taken] / norms[unit], 0.0
            left &= ~taken.cpu()
    return factors


def _merge(state: dict[str, Tensor], roles: Roles, factors: Tensor) -> None:
    """Add up outgoing weights, and clear the incoming ones of units that go; changes the tensors of ``state``."""
    gone = ~factors.any(1)
    for place in roles[0]:
        values, (axis,) = place.view(state[place.tensor])
        values.movedim(axis, 0)[gone] = 0.0
    for place in roles[1]:
        values, (axis,) = place.view(state[place.tensor])
        units = values.movedim(axis, 0)
        units.copy_((factors @ units.flatten(1).double()).view(units.shape))


def _require_mergeable(
    spec: PermutationSpec, group: Group, module: nn.Module, state: State, inputs: Sequence[Tensor]
) -> None:
    """Plant positive multiples of the first half of the units in the second, merge them, and compare the outputs."""
    roles = _roles(spec, group)
    generator = torch.Generator().manual_seed(0)
    half, planted = group.size // 2, {name: _wide_copy(tensor) for name, tensor in state.items()}
    device = planted[roles[0][0].tensor].device
    factors = torch.eye(group.size, dtype=torch.float64, device=device)
    first, second = torch.arange(half), half + torch.arange(half)
    scales = 2.0 ** torch.randint(-2, 3, (half,), generator=generator).double().to(device)
    factors[second, second] = 0.0
    factors[first, second] = scales
    for place in roles[0]:
        values, (axis,) = place.view(planted[place.tensor])
        units = values.movedim(axis, 0)
        units[second] = scales.view(-1, *[1] * (units.dim() - 1)) * units[first]
    merged = {name: tensor.clone() for name, tensor in planted.items()}
    _merge(merged, roles, factors)
    if not (found := same_function(module, planted, merged, inputs)).passed:
        raise SymmetryError(
            f"units of group {group.name!r} cannot be merged: multiples of one another do not add up (outputs change "
            f"by {found.max_rel:.1e} relative); merging is for ReLU units without normalisation"
        )


def _wide_copy(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float64, copy=True) if tensor.is_floating_point() else tensor.clone()
