"""The largest loss on the straight line between two networks, without the curve."""

from __future__ import annotations

from typing import Any

import fastmatch
from fastmatch.cli.barrier.settings import Settings
from fastmatch.cli.barrier.sources import check_same, read_alignment, read_source
from fastmatch.cli.barrier.tables import with_error
from fastmatch.cli.inputs import move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name


def measure_maxima(paths: tuple[str, ...], alphas: int, settings: Settings) -> None:
    """Find, write and print the loss barriers before and after an alignment, or between two networks as they are."""
    networks, permutation, data, files, about = _read(paths, settings)
    first, second = networks
    check_targets(settings.json_path, inputs=files)
    dataset = require_data(first, settings.data or data, settings.data_dir, settings.limit)
    network = move_network(first, dataset, settings.device)
    with progress("evaluating") as tick:
        result = fastmatch.barrier_maxima(
            network.module,
            network.state_dict,
            move_state(second.state_dict, settings.device),
            dataset.to(settings.device),
            permutation=permutation,
            alphas=alphas,
            bn=settings.bn,
            memory=settings.memory,
            progress=tick,
        )
    write_json(
        settings.json_path, {**result.to_json(), **about, "bn": settings.bn}, device=device_name(settings.device)
    )
    console.print(f"{' - '.join(paths)}, {dataset.name}: largest of {alphas} alphas, on {device_name(settings.device)}")
    rows = table("loss barrier (nats)", "linear", "alpha", "evaluated")
    for pair, splits in result.maxima.items():
        for split, found in splits.items():
            share = f"{100 * found.evaluated / found.total:.0f} %"
            height = with_error(found.height, found.height_se, 1.0)
            rows.add_row(f"{pair}, {split}" if permutation else split, height, f"{found.alpha:.2f}", share)
    console.print(rows)
    console.print("Each is the largest of its curve but for the chance of three standard errors, 0.13 %.")


def _read(paths: tuple[str, ...], settings: Settings) -> Any:
    """Networks, permutation, data string, files read, and what the result says of them."""
    if len(paths) == 1:
        found = read_alignment(paths[0], settings.model)
        return (found.a, found.b), found.permutation, found.data, (paths[0], found.a.path, found.b.path), {}
    sources = [read_source(path, settings.model) for path in paths]
    check_same(sources)
    about = {"networks": [source.to_json() for source in sources]}
    files = [file for source in sources for file in source.files]
    return [source.network for source in sources], None, sources[0].data, files, about
