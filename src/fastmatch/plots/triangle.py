"""Loss and error over the triangle of three networks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmatch.interpolation import Triangle
from fastmatch.plots.canvas import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def draw_triangle(
    triangle: Triangle, path: str | os.PathLike[str], names: Sequence[str] = ("a", "b", "c"), title: str = ""
) -> None:
    """Draw test loss and test error over the triangle as filled contours, with its barriers.

    Dots are the points evaluated; a cross marks the largest deviation above the plane through the corners.
    """
    figure = new_figure(path, (9, 4.2), title)
    for axes, (quantity, unit, scale) in zip(
        figure.subplots(1, 2), (("loss", "nats", 1.0), ("error", "%", 100.0)), strict=True
    ):
        _surface(axes, triangle, quantity, scale)
        height = getattr(triangle.surfaces["test"], quantity)
        spread = f" ± {scale * height.linear_se:.3g}" if np.isfinite(height.linear_se) else ""
        axes.set_title(f"test {quantity} ({unit}), barrier {scale * height.linear:.3g}{spread}", fontsize=9, pad=20)
        for name, place, vertical in zip(names, _CORNERS, ("top", "top", "bottom"), strict=True):
            offset = (0, 5 if vertical == "bottom" else -5)
            style: Any = {"textcoords": "offset points", "ha": "center", "va": vertical, "fontsize": 9}
            axes.annotate(name, place, offset, annotation_clip=False, **style)
    save(figure, path)


def _surface(axes: Axes, triangle: Triangle, quantity: str, scale: float) -> None:
    surface = triangle.surfaces["test"]
    values = scale * getattr(surface.evaluation, quantity)
    x, y = (triangle.coefficients @ _CORNERS).T
    if np.ptp(values) > 0:
        filled = axes.tricontourf(x, y, values, levels=12, cmap="viridis")
        axes.figure.colorbar(filled, ax=axes, shrink=0.8)
    else:  # nothing to contour
        axes.fill(*_CORNERS.T, color="#440154")
    axes.plot(x, y, ".", color="#bbbbbb", markersize=3, clip_on=False)
    height = getattr(surface, quantity)
    if height.linear > 0:
        axes.plot(*(np.array(height.coefficients) @ _CORNERS), "x", color="#d55e00", markersize=7, mew=2, clip_on=False)
    axes.set_aspect("equal")
    axes.set_axis_off()
