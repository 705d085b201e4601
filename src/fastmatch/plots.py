"""Pictures: curves of loss and error between networks. The only module that needs matplotlib."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmatch.errors import OptionError, OutputError
from fastmatch.files import write_atomic
from fastmatch.interpolation import Barrier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
_COLOURS = {"unaligned": "#8c8c8c", "aligned": "#0072b2"}
_LINES = {"train": (0, (4, 2)), "test": "solid"}


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
    """Draw loss and error against alpha, before and after alignment, with bands of two standard errors."""
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
    for pair, splits in barrier.curves.items():
        for split, curve in splits.items():
            values = scale * getattr(curve.evaluation, quantity)
            spread = 2 * scale * np.nan_to_num(getattr(curve.evaluation, f"{quantity}_se"))
            style: Any = {"color": _COLOURS[pair], "linestyle": _LINES[split]}
            axes.plot(barrier.alphas, values, label=f"{pair}, {split}", **style)
            axes.fill_between(barrier.alphas, values - spread, values + spread, color=_COLOURS[pair], alpha=0.15, lw=0)
    axes.set_xlabel(r"$\alpha$ (0: network a, 1: network b)")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: str | os.PathLike[str]) -> None:
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=150))
