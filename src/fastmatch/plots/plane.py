"""Loss over planes through networks, with the paths of others."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.plots.canvas import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LEVELS = 16
_HEIGHT = 3.2  # Of a plane, in inches.
_PATH_COLOURS = ("#e69f00", "#d55e00", "#cc79a7", "#ffffff")


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """One plane.

    Attributes
    ----------
    x, y
        Coordinates of the grid's columns and rows.
    values
        Positive values over the grid, shape [y, x].
    corners
        Points of the three networks, shape [3, 2].
    paths
        Points by name, shape [points, 2], joined in order.
    """

    x: ArrayLike
    y: ArrayLike
    values: ArrayLike
    corners: ArrayLike
    paths: Mapping[str, ArrayLike]


def draw_planes(
    planes: Mapping[str, Landscape],
    path: str | os.PathLike[str],
    *,
    unit: str = "",
    names: Sequence[str] = ("a", "b", "c"),
    title: str = "",
) -> None:
    """Draw planes side by side, by title, under one logarithmic colour scale; lines join points of equal value.

    Parameters
    ----------
    unit
        What the colours say.
    names
        Of the corners.
    """
    from matplotlib.colors import LogNorm

    entries = np.concatenate([np.asarray(plane.values, dtype=float).ravel() for plane in planes.values()])
    entries = entries[np.isfinite(entries) & (entries > 0)]
    low, high = (entries.min(), entries.max()) if len(entries) else (0.1, 1.0)
    levels = np.geomspace(low, max(high, 1.001 * low), _LEVELS)
    widths = [_HEIGHT * np.clip(np.ptp(plane.x) / np.ptp(plane.y), 0.5, 1.2) for plane in planes.values()]
    figure = new_figure(path, (1.3 + sum(widths) + 0.6 * len(planes), _HEIGHT + 1.0), title)
    panels = np.atleast_1d(figure.subplots(1, len(planes)))
    known: dict[str, Any] = {}
    filled: Any = None
    for axes, (name, plane) in zip(panels, planes.items(), strict=True):
        values = np.clip(np.asarray(plane.values, dtype=float), levels[0], levels[-1])
        norm = LogNorm(levels[0], levels[-1])
        filled = axes.contourf(plane.x, plane.y, values, levels=levels, cmap="viridis", norm=norm)
        axes.contour(plane.x, plane.y, values, levels=levels, colors="k", linewidths=0.3, alpha=0.5)
        known |= _paths(axes, plane)
        _corners(axes, plane, names)
        axes.set_title(name, fontsize=9)
        axes.set_aspect("equal", adjustable="box")
        axes.tick_params(labelsize=7)
    bar = figure.colorbar(filled, ax=list(panels), label=unit, shrink=0.8, ticks=levels[::3])
    bar.ax.set_yticklabels([f"{level:.2g}" for level in levels[::3]])
    bar.ax.minorticks_off()
    if known:
        figure.legend(
            list(known.values()), list(known), loc="outside lower center", ncols=len(known), frameon=False, fontsize=8
        )
    save(figure, path)


def _paths(axes: Axes, plane: Landscape) -> dict[str, Any]:
    drawn = {}
    for number, (name, points) in enumerate(plane.paths.items()):
        x, y = np.asarray(points, dtype=float).T
        colour = _PATH_COLOURS[number % len(_PATH_COLOURS)]
        (drawn[name],) = axes.plot(x, y, ".-", color=colour, lw=1.3, ms=4, mec="k", mew=0.3)
    return drawn


def _corners(axes: Axes, plane: Landscape, names: Sequence[str]) -> None:
    middle = np.mean(np.asarray(plane.x, dtype=float))
    for name, (x, y) in zip(names, np.asarray(plane.corners, dtype=float), strict=True):
        axes.plot(x, y, "*", color="w", mec="k", mew=0.5, ms=9)
        side = ("right", -5) if x > middle else ("left", 5)  # towards the inside
        style: Any = {"textcoords": "offset points", "fontsize": 8, "color": "w", "fontweight": "bold", "ha": side[0]}
        axes.annotate(name, (x, y), (side[1], 8), bbox={"fc": "k", "alpha": 0.4, "pad": 1, "lw": 0}, **style)
