"""``fastmatch barrier``: which form is meant, and whether its options fit."""

from __future__ import annotations

from typing import Literal

import click
import torch

from fastmatch import plots
from fastmatch.cli import options
from fastmatch.cli.barrier.line import measure_alignment, measure_pair
from fastmatch.cli.barrier.maxima import measure_maxima
from fastmatch.cli.barrier.pairs import measure_list
from fastmatch.cli.barrier.settings import Settings
from fastmatch.cli.barrier.triangle import measure_triangle
from fastmatch.errors import OptionError

ALPHAS, GRID = 25, 9


@click.command(
    epilog="""\b
Example:
  fastmatch barrier --alphas 25
  fastmatch barrier runs/alignment.safetensors --data mnist --limit 1000 --plot barrier.png --json barrier.json
  fastmatch barrier a.pt b.pt --csv line.csv
  fastmatch barrier a.pt b.pt --max-only
  fastmatch barrier a.pt a-b.safetensors a-c.safetensors --grid 9 --plot triangle.png
  fastmatch barrier --pairs pairs.csv --json pairs.json"""
)
@click.argument("networks", nargs=-1, metavar="[ALIGNMENT | A B | A B C]")
@click.option("--alphas", type=int, help=f"Points on a line, both ends included.  [default: {ALPHAS}]")
@click.option("--grid", type=int, help=f"Points on each edge of the triangle of A, B and C.  [default: {GRID}]")
@click.option(
    "--pairs", metavar="FILE", type=click.Path(), help="CSV of pairs a,b: paths relative to it, a pair a line."
)
@options.bn
@click.option("--max-only", is_flag=True, help="Only the largest loss on a line: alphas that fall behind are dropped.")
@options.precision
@options.memory
@options.model
@options.data
@options.data_dir
@options.limit(10_000, "Evaluate on at most N training and N test examples, a fixed subset.")
@options.device
@options.json
@click.option("--csv", "csv_path", metavar="FILE", type=click.Path(), help="Write the figures as CSV.")
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw curves or triangle (.png, .pdf, .svg).")
def barrier(
    networks: tuple[str, ...],
    alphas: int | None,
    grid: int | None,
    pairs: str | None,
    bn: Literal["reset", "keep", "repair"],
    max_only: bool,
    precision: Literal["highest", "fast"],
    memory: float | None,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int,
    device: torch.device,
    json_path: str | None,
    csv_path: str | None,
    plot: str | None,
) -> None:
    """Measure loss and error between networks: on a line, over a triangle, or for a list of pairs.

    ALIGNMENT (default: alignment.safetensors) is what `fastmatch align` wrote; it knows its checkpoints, and the line
    between them is measured before and after it. A B is a line without alignment, A B C a triangle; each of these is a
    checkpoint, or an alignment, which stands for its b with the units permuted.

    With --max-only, alphas race for the largest loss: it is that of the whole curve but for the chance of three
    standard errors.

    With --pairs, the file of --json is written after every pair, and a later run with the same options extends it.
    """
    _check_form(networks, alphas, grid, pairs, plot)
    if max_only:
        _check_max_only(networks, pairs, precision, csv_path or plot)
    if plot:
        plots.check_target(plot)
    settings = Settings(bn, precision, memory, model, data, data_dir, limit, device, json_path, csv_path, plot)
    points = ALPHAS if alphas is None else alphas
    if max_only:
        measure_maxima(networks or (options.ALIGNMENT,), points, settings)
    elif pairs is not None:
        measure_list(pairs, points, settings)
    elif len(networks) == 3:
        measure_triangle(networks, GRID if grid is None else grid, settings)
    elif len(networks) == 2:
        measure_pair((networks[0], networks[1]), points, settings)
    else:
        measure_alignment(networks[0] if networks else options.ALIGNMENT, points, settings)


def _check_max_only(networks: tuple[str, ...], pairs: str | None, precision: str, drawn: str | None) -> None:
    if pairs is not None or len(networks) > 2:
        raise OptionError("--max-only is for one line: name an alignment, or two networks A B")
    if drawn is not None:
        raise OptionError(f"--max-only evaluates no whole curve; leave it out for {drawn}")
    if precision != "highest":
        raise OptionError("--max-only runs in precision highest; leave --precision out")


def _check_form(
    networks: tuple[str, ...], alphas: int | None, grid: int | None, pairs: str | None, plot: str | None
) -> None:
    """Refuse options that the form has no use for."""
    if pairs is not None and networks:
        raise OptionError(f"--pairs names the networks; leave out {networks[0]}, or add it to {pairs}")
    if len(networks) > 3:
        raise OptionError(f"received {len(networks)} networks; name up to three, or a list of pairs with --pairs")
    if pairs is not None and plot is not None:
        raise OptionError("--plot draws a line or a triangle; leave it out with --pairs, or name the networks")
    if grid is not None and len(networks) != 3:
        raise OptionError("--grid is for the triangle of three networks A B C; use --alphas for a line")
    if alphas is not None and len(networks) == 3:
        raise OptionError("--alphas is for a line; use --grid for the triangle of three networks")
