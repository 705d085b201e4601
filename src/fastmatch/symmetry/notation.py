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
from pathlib import Path
from typing import Any

from torch import Tensor

from fastmatch.errors import PermutationError, SymmetryError
from fastmatch.symmetry.layout import Box, Factor, TensorLayout
from fastmatch.symmetry.spec import PermutationSpec, Pin

SPEC_FORMAT = 2
_TOKEN = re.compile(r"\[\d+\]|[()+]|[^\s()+\[\]]+")


def load_spec(path: str | os.PathLike[str], state: Mapping[str, Tensor]) -> PermutationSpec:
    """Read a spec from a JSON file, in any of the forms of :func:`spec_from_json`, for the network with ``state``.

    Raises
    ------
    SymmetryError
        The file is missing, no JSON, malformed, or belongs to another network.
    """
    try:
        data = json.loads(Path(path).read_text())
        spec = spec_from_json(data, state)
        spec.check_state(state, "the network")
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise SymmetryError(f"cannot read a permutation spec from {path} ({error}); give a JSON file") from error
    except (SymmetryError, PermutationError) as error:
        raise SymmetryError(f"{path}: {error}") from error
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


def spec_from_json(data: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> PermutationSpec:
    """Read a spec in its own form or, with the ``state`` of a network, in one of two short forms.

    The short forms are ``{parameter: [group or null for each axis]}`` and ``{group: [[parameter, axis], ...]}``, whose
    entries may have a third item, the axis in the notation of this module. What they leave out stays in order.

    Raises
    ------
    SymmetryError
        The data are malformed, inconsistent, or do not fit ``state``.
    """
    try:
        full = state is None or "format" in data
        spec = _from_full_form(data) if full else _from_short_form(data, state or {})
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
    sizes = {name: int(group["size"]) for name, group in groups.items()}
    tensors = {
        name: TensorLayout(
            tuple(entry["shape"]), tuple(read_axis(text, sizes) for text in entry["axes"]), bool(entry["buffer"])
        )
        for name, entry in data["tensors"].items()
    }
    return PermutationSpec(
        tensors,
        tuple(Pin(pin["axis"], pin["reason"]) for pin in data.get("pinned", ())),
        {name: tuple(group["base"]) for name, group in groups.items() if group["base"]},
        frozenset(name for name, group in groups.items() if group["fixed"]),
    )


def _from_short_form(data: Mapping[str, Any], state: Mapping[str, Tensor]) -> PermutationSpec:
    axes: dict[str, list[str | None]] = {name: [None] * tensor.dim() for name, tensor in state.items()}
    for tensor, axis, text in _entries(data):
        if tensor not in axes:
            raise SymmetryError(f"spec: the network has no tensor {tensor!r}")
        if not 0 <= axis < len(axes[tensor]):
            raise SymmetryError(f"spec: {tensor!r} has {len(axes[tensor])} axes, none with number {axis}")
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
                    read_axis(f"[{size}]" if text is None else text, sizes)
                    for text, size in zip(texts, state[name].shape, strict=True)
                ),
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


def read_axis(text: str, sizes: Mapping[str, int]) -> tuple[Box, ...]:
    """Boxes of an axis from the notation of this module, given the sizes of the groups.

    Raises
    ------
    SymmetryError
        The text is malformed or names a group without a size.
    """
    tokens = _TOKEN.findall(text)
    if re.sub(r"\s", "", text) != "".join(tokens) or not tokens:
        raise SymmetryError(f"spec: cannot read axis {text!r:.80}")
    boxes = _read_sum(tokens, sizes, text)
    if tokens:
        raise SymmetryError(f"spec: cannot read axis {text!r:.80} from {tokens[0]!r} on")
    return boxes


def _read_sum(tokens: list[str], sizes: Mapping[str, int], text: str) -> tuple[Box, ...]:
    boxes = list(_read_product(tokens, sizes, text))
    while tokens and tokens[0] == "+":
        tokens.pop(0)
        start = _extent(boxes)
        boxes += [Box(start + box.offset, box.factors) for box in _read_product(tokens, sizes, text)]
    return tuple(boxes)


def _read_product(tokens: list[str], sizes: Mapping[str, int], text: str) -> tuple[Box, ...]:
    boxes: tuple[Box, ...] = (Box(0, ()),)
    count = 0
    while tokens and tokens[0] not in "+)":
        inner = _read_item(tokens, sizes, text)
        extent, count = _extent(inner), count + 1
        boxes = tuple(
            Box(
                outer.offset * extent + box.offset,
                tuple(Factor(f.group, f.size, f.stride * extent) for f in outer.factors) + box.factors,
            )
            for outer in boxes
            for box in inner
        )
    if not count:
        raise SymmetryError(f"spec: a group is missing in axis {text!r:.80}")
    return boxes


def _read_item(tokens: list[str], sizes: Mapping[str, int], text: str) -> tuple[Box, ...]:
    token = tokens.pop(0)
    if token == "(":
        boxes = _read_sum(tokens, sizes, text)
        if not tokens or tokens.pop(0) != ")":
            raise SymmetryError(f"spec: a parenthesis is open in axis {text!r:.80}")
        return boxes
    if token.startswith("["):
        size = int(token[1:-1])
        return (Box(0, (Factor(None, size, 1),) if size != 1 else ()),)
    if token not in sizes:
        raise SymmetryError(f"spec: the size of group {token!r} is not known, in axis {text!r:.80}")
    return (Box(0, (Factor(token, sizes[token], 1),)),)


def _extent(boxes: Sequence[Box]) -> int:
    return sum(math.prod(box.shape) for box in boxes)
