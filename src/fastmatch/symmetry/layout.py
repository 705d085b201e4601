"""How the positions of a tensor are laid out in units, and where units move."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from torch import Tensor

from fastmatch.errors import SymmetryError

# Group -> the groups for each joint index of which its units have a permutation of their own, outermost first.
Bases = Mapping[str, tuple[str, ...]]
Indices = Mapping[str, np.ndarray]


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
    def shape(self) -> tuple[int, ...]:
        """Sizes of the factors."""
        return tuple(factor.size for factor in self.factors)

    def positions(self) -> np.ndarray:
        """Positions on the axis, shape [sizes of the factors], int64."""
        grids = np.ix_(*(np.arange(factor.size) * factor.stride for factor in self.factors))
        return self.offset + sum(grids, np.zeros(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Occurrence:
    """One place where a group meets a tensor: factor ``factor`` of ``box`` on ``axis`` of ``tensor``.

    ``bases`` are the places of the groups that it varies with, as (axis, box, factor), in the order of ``Group.base``.
    """

    tensor: str
    axis: int
    box: Box
    factor: int
    bases: tuple[tuple[int, Box, int], ...] = ()

    @property
    def group(self) -> str:
        """Name of the group."""
        return str(self.box.factors[self.factor].group)

    @cached_property
    def companions(self) -> frozenset[str]:
        """Names of all groups in the boxes of this place."""
        boxes = (self.box, *(box for _, box, _ in self.bases))
        return frozenset(factor.group for box in boxes for factor in box.factors if factor.group is not None)

    def whole(self, size: int) -> bool:
        """Whether the units are the positions of an axis of this size, one for one."""
        box = self.box
        return not self.bases and not box.offset and len(box.factors) == 1 and box.factors[0].size == size

    def units(self, tensor: Tensor) -> Tensor:
        """Values of ``tensor`` in this place, shape [sizes of the bases..., units of the group, everything else]."""
        values, axes = self.view(tensor)
        values = values.movedim(axes, tuple(range(len(axes))))
        return values.reshape(*values.shape[: len(axes)], -1)

    def view(self, tensor: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """View of ``tensor`` with boxes unfolded into their factors, and its axes of the bases and of the units."""
        if self.whole(tensor.shape[self.axis]):
            return tensor, (self.axis,)
        boxes = {self.axis: self.box} | {axis: box for axis, box, _ in self.bases}
        shape: list[int] = []
        strides: list[int] = []
        start = tensor.storage_offset()
        first: dict[int, int] = {}
        for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
            first[axis] = len(shape)
            box = boxes.get(axis, Box(0, (Factor(None, size, 1),)))
            start += box.offset * stride
            shape += box.shape
            strides += [factor.stride * stride for factor in box.factors]
        axes = (*(first[axis] + factor for axis, _, factor in self.bases), first[self.axis] + self.factor)
        return tensor.as_strided(shape, strides, start), axes

    def __str__(self) -> str:
        factor = self.box.factors[self.factor]
        text = f"{self.tensor}[{self.axis}]"
        if factor.stride != 1 or len(self.box.factors) > 1:
            text += f" in blocks of {factor.stride}" if factor.stride != 1 else " inside blocks"
        return text + (f" from {self.box.offset}" if self.box.offset else "")


@dataclass(frozen=True)
class TensorLayout:
    """One entry of a state dict: its shape and, for each axis, the boxes that tile it."""

    shape: tuple[int, ...]
    axes: tuple[tuple[Box, ...], ...]
    buffer: bool = False

    def occurrences(self, tensor: str, bases: Bases) -> Iterator[Occurrence]:
        """All places of groups, in the order of axes, boxes and factors.

        Raises
        ------
        SymmetryError
            A group stands where a group that it varies with is missing.
        """
        for axis, boxes in enumerate(self.axes):
            for box in boxes:
                for place, factor in enumerate(box.factors):
                    if factor.group is None:
                        continue
                    needed = bases.get(factor.group, ())
                    for found in itertools.product(*(self._bases(tensor, axis, box, name) for name in needed)):
                        yield Occurrence(tensor, axis, box, place, found)

    def _bases(self, tensor: str, axis: int, box: Box, name: str) -> list[tuple[int, Box, int]]:
        """Places of one base beside a box: in the box itself, else on another axis."""
        options = (
            [(axis, box)]
            if name in _groups(box)
            else [(other, item) for other, boxes in enumerate(self.axes) for item in boxes if other != axis]
        )
        found = [
            (other, item, place)
            for other, item in options
            for place, factor in enumerate(item.factors)
            if factor.group == name
        ]
        if not found:
            raise SymmetryError(f"spec: {tensor}[{axis}] varies with {name!r}, which is not on this tensor")
        return found

    def moves(self, indices: Indices, bases: Bases) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Axes that must be moved together, with the source of every place on them (int64, row-major)."""
        for cluster in self.clusters(indices, bases):
            if len(cluster) == 1 and (group := self.mover(cluster[0], bases)) is not None:
                yield cluster, indices[group].copy()
                continue
            sizes = tuple(self.shape[axis] for axis in cluster)
            source = np.arange(math.prod(sizes))
            for boxes in itertools.product(*(self.axes[axis] for axis in cluster)):
                old, new = _cell(boxes, sizes, indices, bases)
                source[new.ravel()] = old.ravel()
            yield cluster, source

    def mover(self, axis: int, bases: Bases) -> str | None:
        """Group whose units are the positions of an axis, one for one; None if there is no such group."""
        boxes = self.axes[axis]
        if len(boxes) != 1 or len(boxes[0].factors) != 1 or boxes[0].factors[0].group in bases:
            return None
        return boxes[0].factors[0].group

    def clusters(self, moving: Collection[str], bases: Bases) -> list[tuple[int, ...]]:
        """Axes that hold some of these groups; those that must be moved together stand together."""
        clusters: list[set[int]] = []
        for axis, boxes in enumerate(self.axes):
            found = [(box, factor.group) for box in boxes for factor in box.factors if factor.group in moving]
            if not found:
                continue
            linked = {axis}
            for box, group in found:
                for name in bases.get(str(group), ()):
                    linked |= {place[0] for place in self._bases("", axis, box, name)}
            for other in [cluster for cluster in clusters if cluster & linked]:
                clusters.remove(other)
                linked |= other
            clusters.append(linked)
        return [tuple(sorted(cluster)) for cluster in clusters]


def _groups(box: Box) -> set[str | None]:
    return {factor.group for factor in box.factors}


def _cell(
    boxes: tuple[Box, ...], sizes: tuple[int, ...], indices: Indices, bases: Bases
) -> tuple[np.ndarray, np.ndarray]:
    """Old and new position, row-major over axes of ``sizes``, of every place in a product of boxes."""
    factors = [(axis, factor) for axis, box in enumerate(boxes) for factor in box.factors]
    grids = np.ix_(*(np.arange(factor.size) for _, factor in factors))
    old = new = np.zeros(tuple(factor.size for _, factor in factors), dtype=np.int64)
    weights = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    start = sum(box.offset * weight for box, weight in zip(boxes, weights, strict=True))
    for place, (axis, factor) in enumerate(factors):
        new = new + grids[place] * (factor.stride * weights[axis])
        moved = grids[place]
        if factor.group in indices:
            at = [_beside(factors, axis, name, grids) for name in bases.get(str(factor.group), ())]
            moved = indices[str(factor.group)][(*at, grids[place])]
        old = old + moved * (factor.stride * weights[axis])
    return old + start, new + start


def _beside(factors: list[tuple[int, Factor]], axis: int, name: str, grids: tuple[np.ndarray, ...]) -> np.ndarray:
    """Index of a base: of its factor on the same axis, else on another."""
    places = [(own != axis, place) for place, (own, factor) in enumerate(factors) if factor.group == name]
    return grids[min(places)[1]]
