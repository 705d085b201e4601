"""``fastmatch barrier``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click
import torch

import fastmatch
from fastmatch import files, plots
from fastmatch.cli import options
from fastmatch.cli.inputs import move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.devices import device_name


@click.command(
    epilog="""\b
Example:
  fastmatch barrier --alphas 25
  fastmatch barrier runs/alignment.safetensors --data mnist --limit 1000 --plot barrier.png --json barrier.json"""
)
@click.argument("alignment", default="alignment.safetensors")
@click.option("--alphas", default=25, show_default=True, help="Points on the line, both ends included.")
@click.option(
    "--bn",
    type=click.Choice(["reset", "keep"]),
    default="reset",
    show_default=True,
    help="BatchNorm statistics: computed anew at every alpha, or interpolated.",
)
@options.model
@options.data
@options.data_dir
@options.limit(10_000, "Evaluate on at most N training and N test examples, a fixed subset.")
@options.device
@options.json
@click.option("--csv", "csv_path", metavar="FILE", type=click.Path(), help="Write the curves as CSV.")
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw the curves (.png, .pdf, .svg).")
def barrier(
    alignment: str,
    alphas: int,
    bn: Literal["reset", "keep"],
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int,
    device: torch.device,
    json_path: str | None,
    csv_path: str | None,
    plot: str | None,
) -> None:
    """Measure loss and error on the line between two networks, before and after ALIGNMENT.

    ALIGNMENT (default: alignment.safetensors) is what `fastmatch align` wrote; it knows its checkpoints.
    """
    if plot:
        plots.check_target(plot)
    permutation = fastmatch.Permutation.load(alignment)
    origin = _origin(permutation, alignment)
    first, second = (_checkpoint(origin, alignment, side, model) for side in ("a", "b"))
    check_targets(json_path, csv_path, plot, inputs=(alignment, first.path, second.path))
    recorded = origin.get("data")
    name = data or (recorded if recorded and fastmatch.is_builtin_data(recorded) else None)
    dataset = require_data(first, name, data_dir, limit)
    network = move_network(first, dataset, device)
    with progress("evaluating") as tick:
        result = fastmatch.barrier(
            network.module,
            network.state_dict,
            move_state(second.state_dict, device),
            dataset.to(device),
            permutation=permutation,
            alphas=alphas,
            bn=bn,
            progress=tick,
        )
    write_json(json_path, {**result.to_json(), "bn": bn}, seed=origin["match"]["seed"], device=device_name(device))
    if csv_path:
        files.write_text(csv_path, _csv(result))
    if plot:
        plots.draw_barrier(result, plot, title=f"{first.model}, {dataset.name}")
    _report(result, f"{Path(first.path).name} - {Path(second.path).name}, {dataset.name}", device)
    if plot:
        console.print(f"drew {plot}")


def _origin(permutation: fastmatch.Permutation, alignment: str) -> Mapping[str, Any]:
    """What `fastmatch align` wrote beside the permutation, its form checked."""
    side = {"path": str, "sha256": str}
    form = {"a": side, "b": side, "model": str, "data": str | None, "match": {"seed": int | None}}
    if not _has_form(permutation.metadata, form):
        raise fastmatch.AlignmentError(f"{alignment} does not name its checkpoints; run `fastmatch align` again")
    return permutation.metadata


def _has_form(value: Any, form: Any) -> bool:
    if isinstance(form, dict):
        return isinstance(value, Mapping) and all(_has_form(value.get(key), part) for key, part in form.items())
    return isinstance(value, form)


def _checkpoint(origin: Mapping[str, Any], alignment: str, side: str, model: str | None) -> fastmatch.Checkpoint:
    file = Path(alignment)
    path = (file.resolve() if file.is_symlink() else file).parent / origin[side]["path"]
    named = origin["model"]
    network = fastmatch.load(path, model or (named if fastmatch.networks.is_builtin(named) else None))
    if network.sha256 != origin[side]["sha256"]:
        raise fastmatch.AlignmentError(
            f"{path} has changed since {alignment} was made; run `fastmatch align` again on the checkpoints you mean"
        )
    return network


def _report(result: fastmatch.Barrier, title: str, device: torch.device) -> None:
    unaligned, aligned = result.curves["unaligned"], result.curves["aligned"]
    counts = " and ".join(f"{curve.evaluation.examples} {split} examples" for split, curve in unaligned.items())
    console.print(f"{title}: {len(result.alphas)} alphas, {counts}, on {device_name(device)}")
    for split, curve in unaligned.items():
        loss, error = curve.evaluation.loss, 100 * curve.evaluation.error
        ends = (f"{name} loss {loss[at]:.4f}, error {error[at]:.2f} %" for name, at in (("a", 0), ("b", -1)))
        console.print(f"{split:5} ends: " + "; ".join(ends))
    for quantity, unit, scale in (("loss", "nats", 1.0), ("error", "%", 100.0)):
        rows = table(f"{quantity} barrier ({unit})", "linear", "mean", "max", "alpha")
        for pair, splits in result.curves.items():
            for split, curve in splits.items():
                height = getattr(curve, quantity)
                linear = f"{scale * height.linear:.4f} ± {scale * height.linear_se:.4f}"
                others = f"{scale * height.mean:.4f}", f"{scale * height.max:.4f}", f"{height.alpha:.2f}"
                rows.add_row(f"{pair}, {split}", linear, *others)
        console.print(rows)
    before, after = unaligned["test"].loss, aligned["test"].loss
    share = f", {100 * after.linear / before.linear:.1f} % of it" if before.linear > 2 * before.linear_se else ""
    console.print(f"test-loss barrier (linear): {before.linear:.4f} unaligned, {after.linear:.4f} aligned{share}")


def _csv(result: fastmatch.Barrier) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    columns = ("loss", "loss_se", "error", "error_se")
    rows.writerow(["pair", "split", "alpha", *columns, "examples"])
    for pair, splits in result.curves.items():
        for split, curve in splits.items():
            for place, alpha in enumerate(result.alphas):
                values = [getattr(curve.evaluation, column)[place] for column in columns]
                rows.writerow([pair, split, alpha, *values, curve.evaluation.examples])
    return text.getvalue()
