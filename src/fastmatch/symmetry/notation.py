"""Specs as JSON, to export, to edit and to write by hand.

An axis is written as the groups it holds: ``"stream"``; blocks row-major with a space, ``"heads inside"``; segments one
after the other with a plus, ``"q + k + v"``; parentheses where needed; ``"[16]"`` for 16 positions in order. So the
columns of a linear layer behind flattened channels of 4x4 images read ``"channels [16]"``.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fastmatch.errors import PermutationError, SymmetryError
from fastmatch.symmetry.layout import Box, Factor, TensorLayout
from fastmatch.symmetry.spec import PermutationSpec, Pin

SPEC_FORMAT = 2
_LARGEST_AXIS = 1 << 26
_DEEPEST = 50
_TOKEN = re.compile(r"\[\d+\]|[()+]|[^\s()+\[\]]+")


def load_spec(path: str | os.PathLike[str], module: nn.Module) -> PermutationSpec:
    """Read a spec for ``module`` from a JSON file, in any of the forms of :func:`spec_from_json`.

    Raises
    ------
    SymmetryError
        The file is missing, no JSON, malformed, or belongs to another network.
    """
    try:
        data = json.loads(Path(path).read_text())
        spec = spec_from_json(data, module)
        spec.check_state(module.state_dict(), "the network")
    except (SymmetryError, PermutationError) as error:
        raise SymmetryError(f"{path}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SymmetryError(f"cannot read a permutation spec from {path} ({error}); give a JSON file") from error
    return spec


def spec_to_json(spec: PermutationSpec) -> dict[str, Any]:
    """Plain data from which :func:`spec_from_json` rebuilds the spec."""
    return {
        "format": SPEC_FORMAT,
        "groups": {
            name: {"size": size, "base": list(spec.bases.get(name, ())), "fixed": name in spec.fixed}
            for name, size in spec.sizes.items()
        },
        "tensors": {
            name: {
                "shape": list(layout.shape),
                "buffer": layout.buffer,
                "axes": [write_axis(boxes) for boxes in layout.axes],
            }
            for name, layout in spec.tensors.items()
        },
        "pinned": [{"axis": pin.axis, "reason": pin.reason} for pin in spec.pinned],
    }


def spec_from_json(data: Mapping[str, Any], module: nn.Module | None = None) -> PermutationSpec:
    """Read a spec in its own form or, given the network, in one of two short forms.

    The short forms are ``{parameter: [group or null for each axis]}`` and ``{group: [[parameter, axis], ...]}``, whose
    entries may have a third item, the axis in the notation of this module. What they leave out stays in order.

    Raises
    ------
    SymmetryError
        The data are malformed, inconsistent, or do not fit ``module``.
    """
    try:
        full = module is None or "format" in data
        spec = _from_full_form(data) if full else _from_short_form(data, module)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SymmetryError(
            f"malformed permutation spec ({error!r}); export one with `fastmatch inspect --export`"
        ) from error
    spec.check()
    return spec


def _from_full_form(data: Mapping[str, Any]) -> PermutationSpec:
    if data["format"] != SPEC_FORMAT:
        raise SymmetryError(f"spec format {data['format']!r} is not {SPEC_FORMAT}; export it again with this version")
    groups = data["groups"]
    sizes = {name: _size(group["size"]) for name, group in groups.items()}
    tensors = {
        name: TensorLayout(
            tuple(map(_size, entry["shape"])),
            tuple(read_axis(text, sizes, size) for text, size in zip(entry["axes"], entry["shape"], strict=True)),
            bool(entry["buffer"]),
        )
        for name, entry in data["tensors"].items()
    }
    return PermutationSpec(
        tensors,
        tuple(Pin(pin["axis"], pin["reason"]) for pin in data.get("pinned", ())),
        {name: tuple(map(str, group["base"])) for name, group in groups.items() if group["base"]},
        frozenset(name for name, group in groups.items() if group["fixed"] is True),
    )


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _LARGEST_AXIS:
        raise SymmetryError(f"spec: {value!r:.40} is no size of an axis")
    return value


def _from_short_form(data: Mapping[str, Any], module: nn.Module) -> PermutationSpec:
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
    axes: dict[str, list[str | None]] = {name: [None] * tensor.dim() for name, tensor in state.items()}
    for tensor, axis, text in _entries(data):
        if tensor not in axes:
            raise SymmetryError(f"spec: the network has no tensor {tensor!r}")
        if not 0 <= axis < len(axes[tensor]):
            raise SymmetryError(f"spec: {tensor!r} has {len(axes[tensor])} axes, none with number {axis}")
        if text is not None and axes[tensor][axis] is not None:
            raise SymmetryError(f"spec: {tensor}[{axis}] is given twice")
        axes[tensor][axis] = text
    sizes: dict[str, int] = {}
    for name, texts in axes.items():
        for text, size in zip(texts, state[name].shape, strict=True):
            if text is not None and _TOKEN.fullmatch(text) and sizes.setdefault(text, size) != size:
                raise SymmetryError(f"spec: group {text!r} has more than one size, {sizes[text]} and {size} at {name}")
    return PermutationSpec(
        {
            name: TensorLayout(
                tuple(state[name].shape),
                tuple(
                    read_axis(f"[{size}]" if text is None else text, sizes, size)
                    for text, size in zip(texts, state[name].shape, strict=True)
                ),
                name in buffers,
            )
            for name, texts in axes.items()
        }
    )


def _entries(data: Mapping[str, Any]) -> list[tuple[str, int, str | None]]:
    """(tensor, axis, notation) of either short form."""
    result: list[tuple[str, int, str | None]] = []
    for key, listed in data.items():
        for place, item in enumerate(listed):
            if item is None or isinstance(item, str):
                result.append((key, place, item))
            else:
                tensor, axis, text = item if len(item) == 3 else (*item, key)
                result.append((tensor, int(axis), text))
    return result


def write_axis(boxes: Sequence[Box]) -> str:
    """Boxes of an axis in the notation of this module."""
    left = sorted(boxes, key=lambda box: box.offset)
    terms = []
    while left:
        first, *rest = left
        size = math.prod(first.shape)
        dense = [math.prod(first.shape[place + 1 :]) for place in range(len(first.shape))]
        if [factor.stride for factor in first.factors] == dense:
            terms.append(" ".join(_write_factor(factor) for factor in first.factors) or f"[{size}]")
            left = rest
            continue
        outer = first.factors[0]
        within = [box for box in left if box.offset < first.offset + outer.stride]
        inner = write_axis([Box(box.offset - first.offset, box.factors[1:]) for box in within])
        terms.append(f"{_write_factor(outer)} ({inner})")
        left = left[len(within) :]
    return " + ".join(terms)


def _write_factor(factor: Factor) -> str:
    return f"[{factor.size}]" if factor.group is None else factor.group


def read_axis(text: str, sizes: Mapping[str, int], size: int) -> tuple[Box, ...]:
    """Boxes of an axis of ``size`` positions from the notation of this module, given the sizes of the groups.

    Raises
    ------
    SymmetryError
        The text is malformed, names a group without a size, or describes another number of positions.
    """
    tokens = _TOKEN.findall(text)
    if not tokens or re.sub(r"\s", "", text) != "".join(tokens) or text.count("(") > _DEEPEST:
        raise SymmetryError(f"spec: cannot read axis {text!r:.80}")
    reader = _Reader(tokens, sizes, size, text)
    boxes = reader.sum()
    if tokens:
        raise reader.error(f"cannot read it from {tokens[0]!r:.20} on")
    if _extent(boxes) != size:
        raise reader.error(f"it describes {_extent(boxes)} positions, the tensor has {size}")
    return boxes


@dataclass(frozen=True)
class _Reader:
    """Recursive descent over the tokens of one axis, never beyond its size."""

    tokens: list[str]
    sizes: Mapping[str, int]
    size: int
    text: str

    def error(self, what: str) -> SymmetryError:
        return SymmetryError(f"spec: axis {self.text!r:.80}: {what}")

    def sum(self) -> tuple[Box, ...]:
        boxes = list(self._product())
        start = _extent(boxes)
        while self.tokens and self.tokens[0] == "+":
            self.tokens.pop(0)
            part = self._product()
            boxes += [Box(start + box.offset, box.factors) for box in part]
            start = self._bounded(start + _extent(part))
        return tuple(boxes)

    def _product(self) -> tuple[Box, ...]:
        boxes: tuple[Box, ...] = (Box(0, ()),)
        count = 0
        while self.tokens and self.tokens[0] not in "+)":
            inner = self._item()
            extent, count = self._bounded(_extent(inner)), count + 1
            self._bounded(extent * _extent(boxes))
            boxes = tuple(
                Box(
                    outer.offset * extent + box.offset,
                    tuple(Factor(f.group, f.size, f.stride * extent) for f in outer.factors) + box.factors,
                )
                for outer in boxes
                for box in inner
            )
        if not count:
            raise self.error("a group is missing")
        return boxes

    def _item(self) -> tuple[Box, ...]:
        token = self.tokens.pop(0)
        if token == "(":
            boxes = self.sum()
            if not self.tokens or self.tokens.pop(0) != ")":
                raise self.error("a parenthesis is open")
            return boxes
        if token.startswith("["):
            size = self._bounded(int(token[1:-1][:20]))
            return (Box(0, (Factor(None, size, 1),) if size != 1 else ()),)
        if token not in self.sizes:
            raise self.error(f"the size of group {token!r:.40} is not known")
        return (Box(0, (Factor(token, self.sizes[token], 1),)),)

    def _bounded(self, extent: int) -> int:
        if extent > self.size or extent == 0 < self.size:
            raise self.error(f"it describes {extent} positions, the tensor has {self.size}")
        return extent


def _extent(boxes: Sequence[Box]) -> int:
    return sum(math.prod(box.shape) for box in boxes)
