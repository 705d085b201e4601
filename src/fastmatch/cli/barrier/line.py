"""Two networks and the straight line between them: before and after an alignment, or as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastmatch
from fastmatch import files, plots
from fastmatch.cli.barrier.settings import Settings
from fastmatch.cli.barrier.sources import check_same, read_alignment, read_source
from fastmatch.cli.barrier.tables import FIGURES, QUANTITIES, corner_lines, csv_text, example_counts, how, with_error
from fastmatch.cli.inputs import move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name


def measure_alignment(path: str, alphas: int, settings: Settings) -> None:
    """Evaluate, write and print the curves before and after an alignment."""
    found = read_alignment(path, settings.model)
    check_targets(*settings.targets, inputs=(path, found.a.path, found.b.path))
    dataset = require_data(found.a, settings.data or found.data, settings.data_dir, settings.limit)
    with progress("evaluating") as tick:
        result = evaluate_line(found.a, found.b, dataset, alphas, settings, tick, found.permutation)
    document = {**result.to_json(), "bn": settings.bn}
    write_json(
        settings.json_path, document, seed=found.seed, device=device_name(settings.device), precision=result.precision
    )
    _write(result, f"{found.a.model}, {dataset.name}", settings)
    _report(result, f"{found.a.path.name} - {found.b.path.name}, {dataset.name}", settings)
    before, after = (result.curves[pair]["test"].loss for pair in ("unaligned", "aligned"))
    share = f", {100 * after.linear / before.linear:.1f} % of it" if before.linear > 2 * before.linear_se else ""
    console.print(f"test-loss barrier (linear): {before.linear:.4f} unaligned, {after.linear:.4f} aligned{share}")
    if settings.plot:
        console.print(f"drew {settings.plot}")


def measure_pair(paths: tuple[str, str], alphas: int, settings: Settings) -> None:
    """Evaluate, write and print the curve between two networks as they are."""
    first, second = sources = [read_source(path, settings.model) for path in paths]
    check_same(sources)
    check_targets(*settings.targets, inputs=[file for source in sources for file in source.files])
    dataset = require_data(first.network, settings.data or first.data, settings.data_dir, settings.limit)
    with progress("evaluating") as tick:
        result = evaluate_line(first.network, second.network, dataset, alphas, settings, tick)
    networks = {"networks": [source.to_json() for source in sources]}
    document = {**result.to_json(), **networks, "bn": settings.bn}
    write_json(settings.json_path, document, device=device_name(settings.device), precision=result.precision)
    title = f"{first.title} - {second.title}, {dataset.name}"
    _write(result, title, settings)
    _report(result, title, settings)
    height = result.curves["unaligned"]["test"].loss
    console.print(f"test-loss barrier (linear): {with_error(height.linear, height.linear_se, 1.0)}")
    if settings.plot:
        console.print(f"drew {settings.plot}")


def evaluate_line(
    first: fastmatch.Checkpoint,
    second: fastmatch.Checkpoint,
    dataset: fastmatch.DataSet,
    alphas: int,
    settings: Settings,
    tick: Callable[[int, int], None],
    permutation: fastmatch.Permutation | None = None,
) -> fastmatch.Barrier:
    """Curves between two checkpoints, on the device asked for."""
    network = move_network(first, dataset, settings.device)
    return fastmatch.barrier(
        network.module,
        network.state_dict,
        move_state(second.state_dict, settings.device),
        dataset.to(settings.device),
        permutation=permutation,
        alphas=alphas,
        bn=settings.bn,
        precision=settings.precision,
        memory=settings.memory,
        progress=tick,
    )


def _write(result: fastmatch.Barrier, title: str, settings: Settings) -> None:
    if settings.csv_path:
        header = ["pair", "split", "alpha", *FIGURES, "examples"]
        files.write_text(settings.csv_path, csv_text(header, _rows(result)))
    if settings.plot:
        plots.draw_barrier(result, settings.plot, title=title)


def _rows(result: fastmatch.Barrier) -> Iterator[list[Any]]:
    for pair, splits in result.curves.items():
        for split, curve in splits.items():
            for place, alpha in enumerate(result.alphas):
                values = [getattr(curve.evaluation, name)[place] for name in FIGURES]
                yield [pair, split, alpha, *values, curve.evaluation.examples]


def _report(result: fastmatch.Barrier, title: str, settings: Settings) -> None:
    evaluations = {split: curve.evaluation for split, curve in result.curves["unaligned"].items()}
    counts = example_counts(evaluations)
    console.print(f"{title}: {len(result.alphas)} alphas, {counts}, {how(evaluations, settings)}")
    for line in corner_lines(evaluations, {"a": 0, "b": -1}, "ends"):
        console.print(line)
    alone = len(result.curves) == 1
    for quantity, unit, scale in QUANTITIES:
        rows = table(f"{quantity} barrier ({unit})", "linear", "mean", "max", "alpha")
        for pair, splits in result.curves.items():
            for split, curve in splits.items():
                height = getattr(curve, quantity)
                linear = with_error(height.linear, height.linear_se, scale)
                others = f"{scale * height.mean:.4f}", f"{scale * height.max:.4f}", f"{height.alpha:.2f}"
                rows.add_row(split if alone else f"{pair}, {split}", linear, *others)
        console.print(rows)
