"""What matching methods leave of a barrier, and what they take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from fastmatch.interpolation import Barriers
from fastmatch.plots.canvas import new_figure, save

_MARKERS = "os^Dv<>Pph*X8d"
# Pairs of shades: methods beside each other get different colours, and the networks as they are the grey one.
_PALETTE, _GREYS = "tab20", (14, 15)


def draw_methods(
    barriers: Barriers,
    curves: Mapping[str, tuple[int, int]],
    seconds: Mapping[str, float],
    path: str | os.PathLike[str],
    title: str = "",
) -> None:
    """Draw the test loss along the line for every method, and its barrier against the seconds of the method.

    ``curves`` names pairs of networks of ``barriers``; those without seconds are dashed. Bars are two standard errors.
    """
    figure = new_figure(path, (11.5, 4.2), title)
    lines, points = figure.subplots(1, 2)
    from matplotlib import colormaps

    known = []
    shades = colormaps[_PALETTE]([number for number in range(20) if number not in _GREYS])
    for place, (name, pair) in enumerate(curves.items()):
        colour, height = shades[(2 * place + place // 9) % len(shades)], barriers.heights[pair]["test"]["loss"]
        values = barriers.means[pair]["test"]["loss"]
        if name not in seconds:
            (line,) = lines.plot(barriers.alphas, values, "--", color="#8c8c8c", label=name)
            points.axhline(height.linear, ls="--", color="#8c8c8c", lw=1)
        else:
            style: Any = {"color": colour, "marker": _MARKERS[place % len(_MARKERS)], "ms": 5, "lw": 1.1}
            (line,) = lines.plot(
                barriers.alphas, values, markevery=(place % 4, 4), label=name.replace("_", " "), **style
            )
            points.errorbar(seconds[name], height.linear, yerr=2 * height.linear_se, **style)
        known.append(line)
    lines.set(xlabel=r"$\alpha$ (0: network a, 1: network b)", ylabel="test cross-entropy (nats)", xlim=(0, 1))
    points.set(xlabel="seconds of matching", ylabel="test-loss barrier (nats)", xscale="log")
    points.axhline(0, color="black", lw=0.8)
    for axes in (lines, points):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(handles=known, loc="outside right center", frameon=False, fontsize=8)
    save(figure, path)
