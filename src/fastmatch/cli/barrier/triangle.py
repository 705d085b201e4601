"""Three networks and the triangle between them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import fastmatch
from fastmatch import files, plots
from fastmatch.cli.barrier.settings import Settings
from fastmatch.cli.barrier.sources import check_same, read_source
from fastmatch.cli.barrier.tables import FIGURES, QUANTITIES, corner_lines, csv_text, example_counts, how, with_error
from fastmatch.cli.inputs import move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name


def measure_triangle(paths: tuple[str, ...], grid: int, settings: Settings) -> None:
    """Evaluate, write and print loss and error over the triangle of three networks."""
    sources = [read_source(path, settings.model) for path in paths]
    check_same(sources)
    check_targets(*settings.targets, inputs=[file for source in sources for file in source.files])
    first, device = sources[0], settings.device
    dataset = require_data(first.network, settings.data or first.data, settings.data_dir, settings.limit)
    network = move_network(first.network, dataset, device)
    states = [network.state_dict, *(move_state(source.network.state_dict, device) for source in sources[1:])]
    with progress("evaluating") as tick:
        result = fastmatch.triangle(
            network.module,
            states,
            dataset.to(device),
            grid=grid,
            bn=settings.bn,
            precision=settings.precision,
            memory=settings.memory,
            progress=tick,
        )
    document = {**result.to_json(), "networks": [source.to_json() for source in sources], "bn": settings.bn}
    write_json(settings.json_path, document, device=device_name(device), precision=result.precision)
    names = [source.title for source in sources]
    if settings.csv_path:
        header = ["split", "a", "b", "c", *FIGURES, "examples"]
        files.write_text(settings.csv_path, csv_text(header, _rows(result)))
    if settings.plot:
        corners = [f"{corner}: {name}" for corner, name in zip("abc", names, strict=True)]
        plots.draw_triangle(result, settings.plot, corners, title=f"{network.model}, {dataset.name}")
    _report(result, f"{' - '.join(names)}, {dataset.name}", settings)
    if settings.plot:
        console.print(f"drew {settings.plot}")


def _rows(result: fastmatch.Triangle) -> Iterator[list[Any]]:
    for split, surface in result.surfaces.items():
        for place, coefficients in enumerate(result.coefficients.tolist()):
            values = [getattr(surface.evaluation, name)[place] for name in FIGURES]
            yield [split, *coefficients, *values, surface.evaluation.examples]


def _report(result: fastmatch.Triangle, title: str, settings: Settings) -> None:
    evaluations = {split: surface.evaluation for split, surface in result.surfaces.items()}
    points = f"{len(result.coefficients)} points, {result.grid} on an edge"
    console.print(f"{title}: {points}, {example_counts(evaluations)}, {how(evaluations, settings)}")
    corners = dict(zip("abc", result.coefficients.argmax(0).tolist(), strict=True))
    for line in corner_lines(evaluations, corners, "corners"):
        console.print(line)
    for quantity, unit, scale in QUANTITIES:
        rows = table(f"{quantity} barrier ({unit})", "linear", "mean", "max", "at a, b, c")
        for split, surface in result.surfaces.items():
            height = getattr(surface, quantity)
            rows.add_row(f"triangle, {split}", *_figures(height, scale), _place(height.coefficients))
            for edge, curve in surface.edges.items():
                height = getattr(curve, quantity)
                at = curve.evaluation.coefficients[np.flatnonzero(curve.alphas == height.alpha)[0]]
                rows.add_row(f"edge {edge}, {split}", *_figures(height, scale), _place(at))
        console.print(rows)
    surface = result.surfaces["test"]
    largest = max(curve.loss.linear for curve in surface.edges.values())
    console.print(
        f"test-loss barrier (linear): {surface.loss.linear:.4f} over the triangle, {largest:.4f} at most on its edges"
    )


def _figures(height: Any, scale: float) -> tuple[str, str, str]:
    linear = with_error(height.linear, height.linear_se, scale)
    return linear, f"{scale * height.mean:.4f}", f"{scale * height.max:.4f}"


def _place(coefficients: Any) -> str:
    return ", ".join(f"{share:.2f}" for share in coefficients)
