"""The table from operation to rule."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from fastmatch.symmetry.labels import Axis

# Labels of the axes of every tensor seen so far, by graph node.
Labels = Mapping[Any, list[Axis]]
Rule = Callable[[Labels, fx.Node], list[Axis]]

_RULES: dict[str, Rule] = {}


def rule(*operations: str) -> Callable[[Rule], Rule]:
    """Register a function as the rule of ATen operations, named without overload (``"aten.mean"``)."""

    def register(function: Rule) -> Rule:
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
    if name not in _RULES and torch.Tag.pointwise in target.tags:
        return _RULES["pointwise"]
    return _RULES.get(name)
