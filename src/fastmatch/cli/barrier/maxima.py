"""The largest loss on the straight line between two networks, without the curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import fastmatch
from fastmatch.cli.barrier.settings import Settings
from fastmatch.cli.barrier.sources import check_same, read_alignment, read_source
from fastmatch.cli.barrier.tables import with_error
from fastmatch.cli.inputs import move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name


def measure_maxima(paths: tuple[str, ...], alphas: int, settings: Settings) -> None:
    """Find, write and print the loss barriers before and after an alignment, or between two networks as they are."""
    line = _read(paths, settings)
    check_targets(settings.json_path, inputs=line.files)
    dataset = require_data(line.first, settings.data or line.data, settings.data_dir, settings.limit)
    network = move_network(line.first, dataset, settings.device)
    with progress("evaluating") as tick:
        result = fastmatch.barrier_maxima(
            network.module,
            network.state_dict,
            move_state(line.second.state_dict, settings.device),
            dataset.to(settings.device),
            permutation=line.permutation,
            alphas=alphas,
            bn=settings.bn,
            memory=settings.memory,
            progress=tick,
        )
    document = {**result.to_json(), **line.about, "bn": settings.bn}
    write_json(settings.json_path, document, seed=line.seed, device=device_name(settings.device))
    console.print(f"{' - '.join(paths)}, {dataset.name}: largest of {alphas} alphas, on {device_name(settings.device)}")
    rows = table("loss barrier (nats)", "linear", "alpha", "evaluated")
    for pair, splits in result.maxima.items():
        for split, found in splits.items():
            share = f"{100 * found.evaluated / found.total:.0f} %"
            height = with_error(found.height, found.height_se, 1.0)
            rows.add_row(f"{pair}, {split}" if line.permutation else split, height, f"{found.alpha:.2f}", share)
    console.print(rows)
    console.print("Each is the largest of its curve but for the chance of three standard errors, 0.13 %.")


class _Line(NamedTuple):
    """Two networks, how the second is aligned, where their data are, and what files were read."""

    first: fastmatch.Checkpoint
    second: fastmatch.Checkpoint
    permutation: fastmatch.Permutation | None
    data: str | None
    files: Sequence[str | Path]
    seed: int | None
    about: dict[str, Any]


def _read(paths: tuple[str, ...], settings: Settings) -> _Line:
    if len(paths) == 1:
        found = read_alignment(paths[0], settings.model)
        files: list[str | Path] = [paths[0], found.a.path, found.b.path]
        return _Line(found.a, found.b, found.permutation, found.data, files, found.seed, {})
    first, second = sources = [read_source(path, settings.model) for path in paths]
    check_same(sources)
    files = [file for source in sources for file in source.files]
    about = {"networks": [source.to_json() for source in sources]}
    return _Line(first.network, second.network, None, first.data, files, None, about)
