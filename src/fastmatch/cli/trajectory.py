"""``fastmatch trajectory``."""

from __future__ import annotations

from typing import Literal

import click
import torch

import fastmatch
from fastmatch import plots
from fastmatch.cli import options
from fastmatch.cli.inputs import (
    check_tracing,
    data_facts,
    example_inputs,
    find_spec,
    model_facts,
    move_network,
    move_state,
    require_data,
)
from fastmatch.cli.output import check_targets, console, progress, table
from fastmatch.cli.resume import Entries
from fastmatch.cli.runs import read_run
from fastmatch.devices import device_name
from fastmatch.errors import OptionError

_MOST_CURVES = 4  # More permutations are drawn as a matrix.


@click.command(
    epilog="""\b
Example:
  fastmatch train "mlp(64, 256, 256, 10)" --data digits --save-epochs 0,1,2,5 --seed 0 -o a.pt
  fastmatch train "mlp(64, 256, 256, 10)" --data digits --save-epochs 0,1,2,5 --seed 1 -o b.pt
  fastmatch trajectory a.pt b.pt --json trajectory.json --plot trajectory.png
  fastmatch trajectory a b --method activation --at last --joint --plot last.png"""
)
@click.argument("run_a")
@click.argument("run_b")
@click.option("--method", type=click.Choice(["weight", "activation"]), default="weight", show_default=True)
@click.option(
    "--at", default="all", show_default=True, metavar="STEPS", help="Steps to match at: all, last, or a list as 0,470."
)
@click.option("--joint", is_flag=True, help="Also one permutation from all steps together.")
@click.option("--alphas", type=int, default=25, show_default=True, help="Points on a line, both ends included.")
@options.bn
@options.seed
@options.tracing
@options.model
@options.data
@options.data_dir
@options.limit(10_000, "Use at most N training and N test examples, a fixed subset.")
@options.device
@options.json
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw a heat map, or curves of few permutations.")
def trajectory(
    run_a: str,
    run_b: str,
    method: Literal["weight", "activation"],
    at: str,
    joint: bool,
    alphas: int,
    bn: Literal["reset", "keep", "repair"],
    seed: int,
    tracing: Literal["export", "run"],
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int,
    device: torch.device,
    json_path: str | None,
    plot: str | None,
) -> None:
    """Match two training runs at some steps, and measure every permutation at every step.

    RUN_A and RUN_B are folders of checkpoints step-000123.pt, as `fastmatch train --save-epochs` writes them beside its
    checkpoint, or that checkpoint, which is then the last step. Both have the same steps.

    The file of --json is written after every barrier, and a later run with the same options goes on with it.
    """
    if plot:
        plots.check_target(plot)
    first, second = read_run(run_a, model), read_run(run_b, model)
    check_targets(json_path, plot, inputs=[*first.files, *second.files])
    check_tracing(method, tracing)
    chosen = _steps(at, list(first.checkpoints))
    dataset = require_data(first.network, data, data_dir, limit)
    spec = find_spec(first.network, example_inputs(first.network, dataset), None, (), tracing)
    for run in (first, second):
        for network in run.checkpoints.values():
            spec.check_state(network.state_dict, str(network.path))
    inputs = {**first.facts("a"), **second.facts("b"), **data_facts(dataset, limit), **model_facts(first.network)}
    how = {"method": method, "seed": seed, "alphas": alphas, "bn": bn}
    entries = Entries(json_path, "trajectory", inputs | how, device_name(device))
    known = len(entries)
    network = move_network(first.network, dataset, device)
    a, b = ({step: move_state(state, device) for step, state in run.states.items()} for run in (first, second))
    with progress("matching and evaluating") as tick:
        result = fastmatch.analysis.trajectory(
            network.module,
            spec,
            a,
            b,
            dataset.to(device),
            method=method,
            at=chosen,
            joint=joint,
            seed=seed,
            alphas=alphas,
            bn=bn,
            known=entries,
            progress=tick,
        )
    entries.finish(result.to_json(), seed)
    title = f"{network.model}, {dataset.name}, {method} matching"
    reused = f", {known} results known before" if known else ""
    console.print(f"{run_a} - {run_b}, {title}: {len(result.steps)} steps{reused}, on {device_name(device)}")
    _report(result)
    if plot:
        _draw(result, plot, title)
        console.print(f"drew {plot}")


def _steps(text: str, steps: list[int]) -> list[int]:
    """Steps that ``--at`` names."""
    if text in ("all", "last"):
        return steps if text == "all" else steps[-1:]
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(f"--at {text} is neither all, last, nor a list of steps such as 0,470") from None


def _report(result: fastmatch.analysis.Trajectory) -> None:
    """One row for each permutation: test barriers at the first and last step, and where they are largest."""
    loss, error, fixed = result.matrix(), 100 * result.matrix(quantity="error"), result.fixed_fraction()
    spread = result.matrix(definition="linear_se")
    first, last = result.steps[0], result.steps[-1]
    columns = [f"loss at {first}", f"loss at {last}", "largest loss", "at step", "largest error (%)"]
    rows = table("permutation of step", *columns, f"fixed as at {result.reference}")
    for number, row in enumerate(result.rows):
        ends = [f"{loss[number, place]:.4f} ± {spread[number, place]:.4f}" for place in (0, -1)]
        top = int(loss[number].argmax())
        share = f"{100 * fixed[row]:.1f} %" if row in fixed else ""
        largest = [f"{loss[number, top]:.4f}", str(result.steps[top]), f"{error[number].max():.2f}"]
        rows.add_row(row, *ends, *largest, share)
    console.print(rows)


def _draw(result: fastmatch.analysis.Trajectory, path: str, title: str) -> None:
    if len(result.permutations) > _MOST_CURVES:
        matrices = {f"{split} loss barrier": result.matrix(split=split) for split in ("train", "test")}
        labels = ("permutation of step", "measured at step")
        plots.draw_matrices(
            matrices, path, rows=result.rows, columns=result.steps, unit="nats", axes_labels=labels, title=title
        )
        return
    panels = [_panel(result, "loss", 1.0, "nats"), _panel(result, "error", 100.0, "%")]
    plots.draw_curves(panels, path, title)


def _panel(
    result: fastmatch.analysis.Trajectory, quantity: Literal["loss", "error"], scale: float, unit: str
) -> plots.Panel:
    """Test barriers by step, a curve for each permutation, with bands of two standard errors."""
    heights = scale * result.matrix(quantity=quantity)
    spreads = 2 * scale * result.matrix(quantity=quantity, definition="linear_se")
    return plots.Panel(
        x=result.steps,
        curves=dict(zip(result.rows, heights, strict=True)),
        spreads=dict(zip(result.rows, spreads, strict=True)),
        xlabel="step",
        ylabel=f"test {quantity} barrier ({unit})",
    )
