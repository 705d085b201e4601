"""What each operation does to axis labels: one file for each family, one function for each operation.

A rule takes the labels so far and a node, ties labels of its inputs, and returns those of its (first) output. It raises
:class:`~fastmatch.symmetry.labels.Mismatch` where structures do not fit; the tracer then pins everything the node
touches.
"""

from __future__ import annotations

from fastmatch.symmetry.rules import contraction, normalization, pointwise, pooling, views  # noqa: F401
from fastmatch.symmetry.rules.registry import rule_for

__all__ = ["rule_for"]
