"""Curves over a common axis, in panels side by side."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmatch.plots.canvas import new_figure, save

_MOST_NAMES = 24


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One set of axes.

    Attributes
    ----------
    curves
        Values by name, one for each place on the axis; NaN leaves a gap.
    spreads
        Half-widths of the bands drawn around the curves of these names.
    log
        Which axes are logarithmic: ``""``, ``"x"``, ``"y"`` or ``"xy"``.
    ticks
        Names of the places on the axis, if they have any; many are thinned out.
    """

    x: ArrayLike
    curves: Mapping[str, ArrayLike]
    xlabel: str
    ylabel: str
    title: str = ""
    spreads: Mapping[str, ArrayLike] | None = None
    log: str = ""
    ticks: Sequence[object] | None = None


def draw_curves(panels: Sequence[Panel], path: str | os.PathLike[str], title: str = "") -> None:
    """Draw panels side by side. Curves of one name have one colour in all of them, and one legend."""
    figure = new_figure(path, (0.5 + 4.2 * len(panels), 3.6), title)
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    known: dict[str, Any] = {}
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        x = np.asarray(panel.x, dtype=float)
        for name, given in panel.curves.items():
            values, colour = np.asarray(given, dtype=float), f"C{names.index(name) % 10}"
            (known[name],) = axes.plot(x, values, ".-", color=colour, lw=1.2, ms=4)
            if panel.spreads and name in panel.spreads:
                spread = np.asarray(panel.spreads[name], dtype=float)
                axes.fill_between(x, values - spread, values + spread, color=colour, alpha=0.15, lw=0)
        axes.set_xlabel(panel.xlabel)
        axes.set_ylabel(panel.ylabel)
        axes.set_title(panel.title, fontsize=9)
        if "x" in panel.log:
            axes.set_xscale("log", base=2)
        if "y" in panel.log:
            axes.set_yscale("log")
        if panel.ticks is not None:
            step = 1 + len(panel.ticks) // _MOST_NAMES
            axes.set_xticks(x[::step], [str(name) for name in panel.ticks[::step]], rotation=90, fontsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        figure.legend([known[name] for name in names], names, loc="outside right center", frameon=False, fontsize=8)
    save(figure, path)
