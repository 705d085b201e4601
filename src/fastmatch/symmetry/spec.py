"""PermutationSpec: which parameter axes share a permutation, and how to apply one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fastmatch.errors import PermutationError, SymmetryError

if TYPE_CHECKING:
    from fastmatch.symmetry.certificate import Certificate

SPEC_FORMAT = 1


@dataclass(frozen=True)
class Factor:
    """One factor of a box: ``size`` positions ``stride`` apart, moved by ``group`` or, where it is None, in order."""

    group: str | None
    size: int
    stride: int


@dataclass(frozen=True)
class Box:
    """Part of an axis: the positions ``offset + sum(index * stride)`` over its factors, outermost first."""

    offset: int
    factors: tuple[Factor, ...]

    @property
    def is_pinned(self) -> bool:
        """True where no group moves anything in this box."""
        return all(factor.group is None for factor in self.factors)

    def positions(self, indices: Mapping[str, np.ndarray] | None = None) -> np.ndarray:
        """Positions on the axis, shape [sizes of the factors], int64; with ``indices``, those that move there."""
        result = np.full((1,) * len(self.factors), self.offset, dtype=np.int64)
        for place, factor in enumerate(self.factors):
            moved = indices is not None and factor.group in indices
            index = indices[factor.group] if moved else np.arange(factor.size)  # type: ignore[index]
            shape = [1] * len(self.factors)
            shape[place] = factor.size
            result = result + (index * factor.stride).reshape(shape)
        return result

    def unit_matrix(self, tensor: Tensor, axis: int, factor: int) -> Tensor:
        """Values of ``tensor`` in this box of ``axis`` as [indices of the factor, everything else]."""
        rows = tensor.movedim(axis, 0)
        positions = np.moveaxis(self.positions(), factor, 0)
        if not np.array_equal(positions.ravel(), np.arange(len(rows))):
            rows = rows.index_select(0, torch.from_numpy(positions.ravel()).to(tensor.device))
        return rows.reshape(len(positions), -1)


@dataclass(frozen=True)
class TensorLayout:
    """One entry of a state dict: its shape and, for each axis, the boxes that tile it."""

    shape: tuple[int, ...]
    axes: tuple[tuple[Box, ...], ...]
    buffer: bool = False

    def axis_index(self, axis: int, indices: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Source position of every place along ``axis`` under ``indices``, int64, or None where nothing moves."""
        moving = [box for box in self.axes[axis] if any(factor.group in indices for factor in box.factors)]
        if not moving:
            return None
        result = np.arange(self.shape[axis])
        for box in moving:
            result[box.positions().ravel()] = box.positions(indices).ravel()
        return result


@dataclass(frozen=True)
class Occurrence:
    """One place where a group meets a tensor: factor ``factor`` of ``box`` on ``axis`` of ``tensor``."""

    tensor: str
    axis: int
    box: Box
    factor: int

    def unit_matrix(self, tensor: Tensor) -> Tensor:
        """View of ``tensor`` as [units of the group, everything else in this box]."""
        return self.box.unit_matrix(tensor, self.axis, self.factor)

    def __str__(self) -> str:
        factor = self.box.factors[self.factor]
        text = f"{self.tensor}[{self.axis}]"
        if factor.stride != 1 or len(self.box.factors) > 1:
            text += f" in blocks of {factor.stride}" if factor.stride != 1 else " inside blocks"
        return text + (f" from {self.box.offset}" if self.box.offset else "")


@dataclass(frozen=True)
class Group:
    """Axes that move together. ``base`` names groups whose units each have a permutation of their own (none yet)."""

    name: str
    size: int
    occurrences: tuple[Occurrence, ...]
    base: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pin:
    """An axis that stays in order, and why."""

    axis: str
    reason: str


@dataclass(frozen=True)
class PermutationSpec:
    """All groups of a network: group -> axes, tensor -> groups (the term of Git Re-Basin, Ainsworth et al. 2023).

    Attributes
    ----------
    tensors
        Layout of every entry of the state dict, parameters and buffers alike.
    pinned
        Axes that stay in order, each with its reason.
    """

    tensors: Mapping[str, TensorLayout]
    pinned: tuple[Pin, ...] = field(default=())

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Groups in the order in which their first tensor is listed."""
        found: dict[str, list[Occurrence]] = {}
        for occurrence, name in self._occurrences():
            found.setdefault(name, []).append(occurrence)
        return tuple(
            Group(name, places[0].box.factors[places[0].factor].size, tuple(places)) for name, places in found.items()
        )

    def _occurrences(self) -> Iterator[tuple[Occurrence, str]]:
        for tensor, layout in self.tensors.items():
            for axis, boxes in enumerate(layout.axes):
                for box in boxes:
                    for place, factor in enumerate(box.factors):
                        if factor.group is not None:
                            yield Occurrence(tensor, axis, box, place), factor.group

    def group(self, name: str) -> Group:
        """Return the group called ``name``; SymmetryError if there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise SymmetryError(f"no group {name!r}; the groups are {', '.join(g.name for g in self.groups) or 'none'}")

    def matched(self, group: Group) -> tuple[Occurrence, ...]:
        """Occurrences on parameters: buffers are permuted, never matched on."""
        return tuple(place for place in group.occurrences if not self.tensors[place.tensor].buffer)

    def identity(self) -> dict[str, np.ndarray]:
        """Index arrays that move nothing."""
        return {group.name: np.arange(group.size) for group in self.groups}

    def random(self, seed: int) -> dict[str, np.ndarray]:
        """Uniformly random index arrays, one for each group."""
        generator = np.random.default_rng(seed)
        return {group.name: generator.permutation(group.size) for group in self.groups}

    def check_state(self, state: Mapping[str, Tensor], where: str = "state dict") -> None:
        """Raise PermutationError unless ``state`` has the tensors and shapes of this spec."""
        for name, layout in self.tensors.items():
            if name not in state:
                raise PermutationError(f"{where}: no tensor {name!r}, which the network has; give a matching --model")
            if tuple(state[name].shape) != layout.shape:
                raise PermutationError(
                    f"{where}: {name!r} has shape {tuple(state[name].shape)}, the network has {layout.shape}; "
                    "only networks of one architecture and width can be aligned"
                )
        if extra := [name for name in state if name not in self.tensors]:
            raise PermutationError(f"{where}: {extra[0]!r} is not part of the network; give a matching --model")

    def permute(
        self, state: Mapping[str, Tensor], indices: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Return ``state`` with its units moved: ``new = old.index_select(axis, index)`` along every axis of a group.

        Tensors that nothing moves are passed on, not copied. ``names`` restricts the work to some tensors.
        """
        return {name: self._permute(name, state[name], indices) for name in (state if names is None else names)}

    def _permute(self, name: str, tensor: Tensor, indices: Mapping[str, np.ndarray]) -> Tensor:
        layout = self.tensors[name]
        for axis in range(len(layout.shape)):
            index = layout.axis_index(axis, indices)
            if index is not None:
                tensor = tensor.index_select(axis, torch.from_numpy(index).to(tensor.device))
        return tensor

    def certify(self, module: nn.Module, inputs: Sequence[Tensor], seed: int = 0) -> Certificate:
        """Certify all groups at once by random permutations; see ``certify_spec``."""
        from fastmatch.symmetry.certificate import certify_spec

        return certify_spec(self, module, inputs, seed)

    def to_json(self) -> dict[str, Any]:
        """Plain data: groups, the layout of every tensor, and pins. See :meth:`from_json`."""
        return {
            "format": SPEC_FORMAT,
            "groups": [{"name": group.name, "size": group.size, "base": list(group.base)} for group in self.groups],
            "tensors": {
                name: {
                    "shape": list(layout.shape),
                    "buffer": layout.buffer,
                    "axes": [[_box_to_json(box) for box in boxes] for boxes in layout.axes],
                }
                for name, layout in self.tensors.items()
            },
            "pinned": [{"axis": pin.axis, "reason": pin.reason} for pin in self.pinned],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PermutationSpec:
        """Rebuild a spec from :meth:`to_json`; SymmetryError where the data are malformed or inconsistent."""
        try:
            if data["format"] > SPEC_FORMAT:
                raise SymmetryError(f"spec format {data['format']} is newer than {SPEC_FORMAT}; update fastmatch")
            tensors = {
                name: TensorLayout(
                    tuple(entry["shape"]),
                    tuple(tuple(_box_from_json(box) for box in boxes) for boxes in entry["axes"]),
                    bool(entry["buffer"]),
                )
                for name, entry in data["tensors"].items()
            }
            spec = cls(tensors, tuple(Pin(pin["axis"], pin["reason"]) for pin in data["pinned"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SymmetryError(f"malformed permutation spec ({error!r}); export it again") from error
        spec.check()
        return spec

    def check(self) -> None:
        """Raise SymmetryError unless the boxes tile every axis and every group has one size."""
        sizes = {group.name: group.size for group in self.groups}
        for name, layout in self.tensors.items():
            if len(layout.axes) != len(layout.shape):
                raise SymmetryError(f"spec: {name!r} has {len(layout.shape)} axes, {len(layout.axes)} are described")
            for axis, (size, boxes) in enumerate(zip(layout.shape, layout.axes, strict=True)):
                covered = np.concatenate([box.positions().ravel() for box in boxes]) if boxes else np.empty(0, int)
                if not np.array_equal(np.sort(covered), np.arange(size)):
                    raise SymmetryError(f"spec: the boxes of {name}[{axis}] do not cover its {size} positions once")
                for factor in (factor for box in boxes for factor in box.factors if factor.group is not None):
                    if factor.size != sizes[factor.group]:  # type: ignore[index]
                        raise SymmetryError(f"spec: group {factor.group!r} has more than one size, at {name}[{axis}]")

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of groups and layouts: two specs with one digest mean the same permutations."""
        data = {key: value for key, value in self.to_json().items() if key != "pinned"}
        return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _box_to_json(box: Box) -> dict[str, Any]:
    return {"offset": box.offset, "factors": [[factor.group, factor.size, factor.stride] for factor in box.factors]}


def _box_from_json(data: Mapping[str, Any]) -> Box:
    return Box(
        int(data["offset"]), tuple(Factor(group, int(size), int(stride)) for group, size, stride in data["factors"])
    )
