"""Loss and error on the line between two networks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmatch.interpolation import Barrier
from fastmatch.plots.canvas import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = {"unaligned": "#8c8c8c", "aligned": "#0072b2"}
_LINES = {"train": (0, (4, 2)), "test": "solid"}


def draw_barrier(barrier: Barrier, path: str | os.PathLike[str], title: str = "") -> None:
    """Draw loss and error against alpha, before and after alignment, with bands of two standard errors.

    A single pair of curves needs no name: it is drawn as the aligned one is, and labelled by its splits.
    """
    figure = new_figure(path, (9, 3.6), title)
    loss, error = figure.subplots(1, 2)
    _curves(loss, barrier, "loss", 1.0)
    _curves(error, barrier, "error", 100.0)
    loss.set_ylabel("cross-entropy (nats)")
    error.set_ylabel("error (%)")
    error.legend(frameon=False, fontsize=8)
    save(figure, path)


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
