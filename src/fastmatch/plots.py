"""Pictures: curves and triangles of loss and error between networks. The only module that needs matplotlib."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmatch.errors import OptionError, OutputError
from fastmatch.files import write_atomic
from fastmatch.interpolation import Barrier, Triangle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
_COLOURS = {"unaligned": "#8c8c8c", "aligned": "#0072b2"}
_LINES = {"train": (0, (4, 2)), "test": "solid"}
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])


def check_target(path: str | os.PathLike[str]) -> None:
    """Raise before any work is done where a picture could not be drawn to ``path``.

    Raises
    ------
    OptionError
        The suffix is none of .png, .pdf, .svg.
    OutputError
        matplotlib is not installed.
    """
    if os.path.splitext(path)[1].lower() not in SUFFIXES:
        raise OptionError(f"cannot draw to {os.fspath(path)}; name a file that ends in {', '.join(SUFFIXES)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise OutputError("drawing needs matplotlib; install it with: pip install 'fastmatch[plots]'") from error


def draw_barrier(barrier: Barrier, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw loss and error against alpha, before and after alignment, with bands of two standard errors.

    A single pair of curves needs no name: it is drawn as the aligned one is, and labelled by its splits.
    """
    check_target(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, error = figure.subplots(1, 2)
    _curves(loss, barrier, "loss", 1.0)
    _curves(error, barrier, "error", 100.0)
    loss.set_ylabel("cross-entropy (nats)")
    error.set_ylabel("error (%)")
    error.legend(frameon=False, fontsize=8)
    if title:
        figure.suptitle(title, fontsize=10)
    _save(figure, path)


def _curves(axes: Axes, barrier: Barrier, quantity: str, scale: float) -> None:
    alone = len(barrier.curves) == 1
    for pair, splits in barrier.curves.items():
        colour = _COLOURS["aligned" if alone else pair]
        for split, curve in splits.items():
            values = scale * getattr(curve.evaluation, quantity)
            spread = 2 * scale * np.nan_to_num(getattr(curve.evaluation, f"{quantity}_se"))
            style: Any = {"color": colour, "linestyle": _LINES[split]}
            axes.plot(barrier.alphas, values, label=split if alone else f"{pair}, {split}", **style)
            axes.fill_between(barrier.alphas, values - spread, values + spread, color=colour, alpha=0.15, lw=0)
    axes.set_xlabel(r"$\alpha$ (0: network a, 1: network b)")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def draw_triangle(
    triangle: Triangle, path: str | os.PathLike[str], names: Sequence[str] = ("a", "b", "c"), title: str = ""
) -> None:
    """Draw test loss and test error over the triangle as filled contours, with its barriers.

    Dots are the points evaluated; a cross marks the largest deviation above the plane through the corners.
    """
    check_target(path)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
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
    if title:
        figure.suptitle(title, fontsize=10)
    _save(figure, path)


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


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=150))
