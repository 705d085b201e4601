"""What each operation does to axis labels: one file for each family, one function for each operation.

A rule takes the labels so far and a node, ties labels of its inputs, and returns those of its output (a tuple for
several outputs). It records the joint indices that neither inputs nor outputs show. It raises
:class:`~fastmatch.symmetry.labels.Mismatch` where structures do not fit; the tracer then pins everything the node
touches.
"""

from __future__ import annotations

from fastmatch.symmetry.rules import (  # noqa: F401
    contraction,
    convolution,
    indexing,
    joining,
    normalization,
    pointwise,
    pooling,
    views,
)
from fastmatch.symmetry.rules.registry import Axes, Labels, argument, rule_for

__all__ = ["Axes", "Labels", "argument", "rule_for"]
