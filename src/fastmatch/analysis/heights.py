"""Barriers as plain data, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fastmatch.interpolation import BarrierHeight
from fastmatch.interpolation.pairs import Heights


def heights_to_json(heights: Heights) -> dict[str, Any]:
    """Plain data: ``["train" | "test"]["loss" | "error"]``, then the figures of the barrier by name."""
    return {split: {q: dict(vars(height)) for q, height in found.items()} for split, found in heights.items()}


def heights_from_json(data: Mapping[str, Any]) -> Heights:
    """Barriers from :func:`heights_to_json`; None, as JSON has it, is a figure that does not exist."""
    return {split: {q: _height(figures) for q, figures in found.items()} for split, found in data.items()}


def _height(figures: Mapping[str, float | None]) -> BarrierHeight:
    return BarrierHeight(**{name: math.nan if value is None else value for name, value in figures.items()})
