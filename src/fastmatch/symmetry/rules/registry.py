"""The table from operation to rule, and what a rule is given."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, fx

from fastmatch.symmetry.algebra import force
from fastmatch.symmetry.labels import Atom, Axis

# Labels of the axes of one tensor, or of each of several outputs.
Axes = list[Axis]
Outputs = Axes | tuple[Axes, ...]


class Labels:
    """Labels of every tensor seen so far, and the joint index spaces of the operations on them.

    Attributes
    ----------
    spaces
        Lists of labels whose indices occur together: in one tensor, or in the sum or statistic of one operation, with
        contracted axes once. They decide what may vary with what.
    constants
        Values of the nodes that depend on neither weights nor inputs.
    """

    def __init__(self) -> None:
        self.spaces: list[Axes] = []
        self.constants: dict[fx.Node, Tensor] = {}
        self._axes: dict[fx.Node, Outputs] = {}

    def __getitem__(self, node: Any) -> Axes:
        """Labels of a node's (first) value, without undecided views."""
        return [force(axis) for axis in self.lazy(node)]

    def __contains__(self, node: Any) -> bool:
        return node in self._axes

    def __setitem__(self, node: fx.Node, outputs: Outputs) -> None:
        self._axes[node] = outputs
        self.spaces += outputs if isinstance(outputs, tuple) else [outputs]

    def lazy(self, node: Any, output: int = 0) -> Axes:
        """Labels of one output of a node as they stand.

        A constant has new labels at each use, free along the axes on which it is the same everywhere: else what has
        nothing in common but a zero would be tied.
        """
        if node in self.constants:
            return _constant_axes(self.constants[node])
        outputs = self._axes[node]
        return list(outputs[output] if isinstance(outputs, tuple) else outputs)

    def outputs(self, node: fx.Node) -> int:
        """Return the number of outputs that have labels of their own."""
        outputs = self._axes.get(node)
        return len(outputs) if isinstance(outputs, tuple) else 1

    def joint(self, *axes: Axis) -> None:
        """Record that the indices of ``axes`` occur together."""
        self.spaces.append(list(axes))


def _constant_axes(value: Tensor) -> Axes:
    return [
        Atom(size, None if size and bool((value == value.narrow(axis, 0, 1)).all()) else "constant of the network")
        for axis, size in enumerate(value.shape)
    ]


Rule = Callable[[Labels, fx.Node], Outputs]
AnyRule = TypeVar("AnyRule", bound=Rule)

_RULES: dict[str, Rule] = {}


def rule(*operations: str) -> Callable[[AnyRule], AnyRule]:
    """Register a function as the rule of ATen operations, named without overload (``"aten.mean"``)."""

    def register(function: AnyRule) -> AnyRule:
        for operation in operations:
            _RULES[operation] = function
        return function

    return register


def rule_for(target: Any) -> Rule | None:
    """Return the rule of a call target, or None. Operations tagged as pointwise share one rule."""
    if target is operator.getitem:
        return _RULES["getitem"]
    if not isinstance(target, torch._ops.OpOverload):
        return None
    name = str(target.overloadpacket)
    if name not in _RULES and torch.Tag.pointwise in target.tags and not target._schema.is_mutable:
        return _RULES["pointwise"]
    return _RULES.get(name)


def argument(node: fx.Node, place: int, name: str = "", default: Any = None) -> Any:
    """Return an argument of a call, however it was passed."""
    given: Any = node.args[place] if len(node.args) > place else node.kwargs.get(name, default)
    return given


def places(listed: int | Sequence[int] | None, rank: int) -> list[int]:
    """Axes named by a ``dim`` argument, from the front; all of them where it is None or empty."""
    if listed is None or listed == []:
        return list(range(rank))
    return [place % rank for place in ([listed] if isinstance(listed, int) else listed)]
