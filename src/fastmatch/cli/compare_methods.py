"""``fastmatch compare-methods``."""

from __future__ import annotations

import shlex
from typing import Literal

import click
import torch

import fastmatch
from fastmatch import plots
from fastmatch.analysis import UNALIGNED, MethodComparison
from fastmatch.cli import options
from fastmatch.cli.barrier.tables import with_error
from fastmatch.cli.inputs import example_inputs, find_spec, move_network, move_state, require_data
from fastmatch.cli.output import check_targets, console, progresses, table, write_json
from fastmatch.devices import device_name


@click.command(
    "compare-methods",
    epilog="""\b
Example:
  fastmatch compare-methods a.pt b.pt --plot methods.png --json methods.json
  fastmatch compare-methods a.pt b.pt --budget 60 --method weight --method activation --method straight_through""",
)
@click.argument("a")
@click.argument("b")
@click.option(
    "--method",
    "methods",
    type=options.MethodChoice(list(fastmatch.METHODS)),
    multiple=True,
    help="Run this one; may be repeated.  [default: all]",
)
@click.option("--budget", type=float, default=300.0, show_default=True, help="Seconds of matching in all.")
@click.option("--alphas", default=25, show_default=True, help="Points on each line, both ends included.")
@options.bn
@options.seed
@options.model
@options.data
@options.data_dir
@options.spec
@options.freeze
@options.limit(10_000, "Match on at most N training examples, a fixed subset.")
@click.option(
    "--examples", default=1000, show_default=True, help="Measure barriers on at most N training and N test examples."
)
@options.device
@options.json
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw curves and barriers (.png, .pdf, .svg).")
def compare_methods(
    a: str,
    b: str,
    methods: tuple[str, ...],
    budget: float,
    alphas: int,
    bn: Literal["reset", "keep", "repair"],
    seed: int,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    spec_path: str | None,
    freeze: tuple[str, ...],
    limit: int,
    examples: int,
    device: torch.device,
    json_path: str | None,
    plot: str | None,
) -> None:
    """Match A and B with every method, and show what each leaves of the barrier and how long it took.

    Methods look at training examples only; those that do not finish within their share of the budget say so.
    """
    if plot:
        plots.check_target(plot)
    first, second = fastmatch.load(a, model), fastmatch.load(b, model)
    check_targets(json_path, plot, inputs=[path for path in (a, b, spec_path) if path])
    dataset = require_data(first, data, data_dir, limit)
    spec = find_spec(first, example_inputs(first, dataset), spec_path, freeze, "export")
    for path, network in ((a, first), (b, second)):
        spec.check_state(network.state_dict, path)
    moved, dataset = move_network(first, dataset, device), dataset.to(device)
    right = move_state(second.state_dict, device)
    pair = fastmatch.Pair(spec, moved.state_dict, right, moved.module, dataset.train)
    with progresses() as tick:
        result = fastmatch.analysis.compare_methods(
            pair,
            dataset.take(examples),
            methods=methods or None,
            budget=budget,
            seed=seed,
            alphas=alphas,
            bn=bn,
            progress=tick,
        )
    write_json(json_path, {**result.to_json(), "bn": bn}, seed=seed, device=device_name(device))
    title = f"{first.path.name} - {second.path.name}, {dataset.name}"
    console.print(
        f"{title}: matched on {len(dataset.train)} training examples, {alphas} alphas, on {device_name(device)}"
    )
    named = {"--model": model, "--data": data, "--data-dir": data_dir, "--spec": spec_path, "--limit": str(limit)}
    given = [word for option, value in named.items() if value for word in (option, value)]
    given += ["--seed", str(seed), *(word for pattern in freeze for word in ("--freeze", pattern))]
    _report(result, shlex.join(["fastmatch", "align", a, b, "--method", result.best, *given]))
    if plot:
        seconds = {name: match.seconds for name, match in result.matches.items()}
        plots.draw_methods(result.barriers, result.curves, seconds, plot, title=title)
        console.print(f"drew {plot}")


def _report(result: MethodComparison, command: str) -> None:
    columns = "train-loss barrier", "test-loss barrier", "test-error barrier (%)", "seconds"
    rows = table("method", "objective", "before", "after", *columns)
    for name, pair in result.curves.items():
        splits = result.barriers.heights[pair]
        figures = [
            with_error(height.linear, height.linear_se, scale)
            for height, scale in (
                (splits["train"]["loss"], 1.0),
                (splits["test"]["loss"], 1.0),
                (splits["test"]["error"], 100.0),
            )
        ]
        if name == UNALIGNED:
            rows.add_row(name, "", "", "", *figures, "")
            continue
        match = result.matches[name]
        before, after = f"{match.objective_before:.4g}", f"{match.objective_after:.4g}"
        rows.add_row(name, match.measure, before, after, *figures, f"{match.seconds:.1f}")
    console.print(rows)
    for name, reason in result.skipped.items():
        console.print(f"{name}: no result: {reason}")
    console.print(f"lowest barrier of the training loss: {result.best}; next: {command}")
