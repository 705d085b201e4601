"""What is kept of the line between two networks: its barriers and its mean values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastmatch.interpolation.barrier import BarrierHeight, Curve

Heights = Mapping[str, Mapping[str, BarrierHeight]]
Means = Mapping[str, Mapping[str, np.ndarray]]
_QUANTITIES = ("loss", "error")


class Line(NamedTuple):
    """Barriers and means of one curve.

    ``heights[split][quantity]`` is a barrier; ``means[split][quantity]`` the means over examples, float64, one for each
    alpha.
    """

    heights: Heights
    means: Means

    @classmethod
    def of(cls, curves: Mapping[str, Curve]) -> Line:
        """What is kept of curves by split; the figures of single examples are not."""
        return cls(
            {split: {name: getattr(curve, name) for name in _QUANTITIES} for split, curve in curves.items()},
            {split: {name: getattr(curve.evaluation, name) for name in _QUANTITIES} for split, curve in curves.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "barriers": heights_to_json(self.heights),
            "means": {split: {q: m.tolist() for q, m in found.items()} for split, found in self.means.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Line:
        """Rebuild a line; None stands for a figure that is not finite."""
        heights = {
            split: {q: BarrierHeight(**{name: _number(value) for name, value in h.items()}) for q, h in found.items()}
            for split, found in data["barriers"].items()
        }
        means = {
            split: {q: np.array([_number(value) for value in values]) for q, values in found.items()}
            for split, found in data["means"].items()
        }
        return cls(heights, means)


def heights_to_json(heights: Heights) -> dict[str, Any]:
    """Plain data: ``["train" | "test"]["loss" | "error"]``, then the figures of the barrier by name."""
    return {split: {q: dict(vars(height)) for q, height in found.items()} for split, found in heights.items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value
