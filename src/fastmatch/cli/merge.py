"""``fastmatch merge``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import click
import torch

import fastmatch
from fastmatch import analysis, checkpoints
from fastmatch.cli import options
from fastmatch.cli.aligning import origin
from fastmatch.cli.inputs import example_inputs, find_spec, label_noise, move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name
from fastmatch.errors import OptionError


@click.command(
    epilog="""\b
Example:
  fastmatch merge a.pt b.pt c.pt -o merged.pt
  fastmatch merge a.pt b.pt -o merged.pt --method weight --weights 0.7,0.3 --bn repair"""
)
@click.argument("networks", nargs=-1, required=True)
@click.option("-o", "--output", metavar="FILE", required=True, help="Checkpoint to write (.pt or .safetensors).")
@click.option(
    "--weights",
    metavar="W,W,...",
    callback=lambda context, parameter, given: None if given is None else _numbers(given),
    help="Of each network in the average; divided by their sum.  [default: equal]",
)
@click.option("--method", type=click.Choice(["auto", "weight", "activation"]), default="auto", show_default=True)
@click.option(
    "--reference",
    type=click.Choice(["universe", "mean", "first"]),
    default="universe",
    show_default=True,
    help="What networks are lined up with; see align.",
)
@options.seed
@options.bn
@options.model
@options.data
@options.data_dir
@options.limit(10_000, "Match and evaluate on at most N training and N test examples, a fixed subset.")
@options.device
@options.json
def merge(
    networks: tuple[str, ...],
    output: str,
    weights: list[float] | None,
    method: Literal["auto", "weight", "activation"],
    reference: Literal["universe", "mean", "first"],
    seed: int,
    bn: Literal["reset", "keep", "repair"],
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int,
    device: torch.device,
    json_path: str | None,
) -> None:
    """Line NETWORKS up, average their weights into one, and measure it beside its parts and their ensemble.

    Weights are averaged and written in the types of the network's own code, float32 for built-in ones.
    """
    checkpoints.check_suffix(output)
    parts = [fastmatch.load(path, model) for path in networks]
    check_targets(output, json_path, inputs=networks)
    first = parts[0]
    dataset = require_data(first, data, data_dir, limit)
    noise = _common_noise(parts, networks, dataset.name)
    spec = find_spec(first, example_inputs(first, dataset), None, (), "export")
    for path, part in zip(networks, parts, strict=True):
        spec.check_state(part.state_dict, path)
    module = move_network(first, dataset, device).module
    with progress("matching") as tick:
        found = analysis.merge(
            module,
            [move_state(part.state_dict, device) for part in parts],
            dataset.to(device),
            weights=weights,
            method=method,
            reference=reference,
            spec=spec,
            bn=bn,
            seed=seed,
            progress=tick,
        )
    about = {
        "parts": [origin(part, output) for part in parts],
        "weights": list(found.weights),
        "method": found.match.method,
        "reference": reference,
        "bn": bn,
        "seed": seed,
        "limit": limit,
    }
    checkpoints.write(output, found.state, _card(first, dataset, noise, about))
    origins = [{"path": path, "sha256": part.sha256} for path, part in zip(networks, parts, strict=True)]
    result = {"networks": origins, "output": output, "bn": bn, **found.to_json()}
    write_json(json_path, result, seed=seed, device=device_name(device))
    _report(found, networks, dataset, device)
    console.print(f"wrote {output}")


def _numbers(given: str) -> list[float]:
    try:
        return [float(number) for number in given.split(",")]
    except ValueError as error:
        raise OptionError(f"--weights {given} are not numbers; write one for each network, as 0.5,0.3,0.2") from error


def _common_noise(parts: Sequence[fastmatch.Checkpoint], paths: Sequence[str], data: str) -> float:
    """Label noise that all parts were trained with; OptionError where it differs."""
    noise = [label_noise(part, data) for part in parts]
    for path, other in zip(paths, noise, strict=True):
        if other != noise[0]:
            raise OptionError(
                f"{paths[0]} was trained with label noise {noise[0]:g}, {path} with {other:g}: their training examples "
                "differ; merge networks of the same examples"
            )
    return noise[0]


def _card(
    first: fastmatch.Checkpoint, dataset: fastmatch.DataSet, noise: float, about: Mapping[str, Any]
) -> checkpoints.Card:
    """Network and data of the merged checkpoint, with the label noise of these; it is of no run."""
    model = first.model if fastmatch.networks.is_builtin(first.model) else None
    data = dataset.name if fastmatch.is_builtin_data(dataset.name) else None
    extra = {"merged": dict(about)} | ({"label_noise": noise} if noise else {})
    return checkpoints.Card(model=model, data=data, extra=extra)


def _report(found: analysis.Merge, paths: Sequence[str], dataset: fastmatch.DataSet, device: torch.device) -> None:
    rows = table("", "weight", "train loss", "train error (%)", "test loss", "test error (%)")
    named = [
        (path, f"{found.weights[m]:.3g}", {s: found.parts[s][m] for s in found.parts}) for m, path in enumerate(paths)
    ]
    kinds = {
        "mean of these": found.mean,
        "ensemble": found.ensemble,
        "merged, unaligned": found.unaligned,
        "merged": found.merged,
    }
    for name, weight, figures in [*named, *((name, "", figures) for name, figures in kinds.items())]:
        shown = [(f"{figures[s].loss:.4f}", f"{100 * figures[s].error:.2f}") for s in ("train", "test")]
        rows.add_row(name, weight, *shown[0], *shown[1])
    console.print(rows)
    for note in found.match.notes:
        console.print(note)
    examples = f"{len(dataset.train)} train examples and {len(dataset.test)} test examples"
    matched = f"{found.match.method} matching, {found.match.seconds:.1f} s on {device_name(device)}"
    console.print(f"{matched}; {dataset.name}: {examples}")
