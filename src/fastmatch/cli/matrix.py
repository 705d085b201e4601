"""``fastmatch matrix``."""

from __future__ import annotations

from typing import Literal

import click
import numpy as np
import torch

import fastmatch
from fastmatch import plots
from fastmatch.analysis import Population
from fastmatch.cli import options
from fastmatch.cli.barrier.sources import Source, check_same, read_source
from fastmatch.cli.inputs import (
    check_tracing,
    data_facts,
    example_inputs,
    find_spec,
    model_facts,
    move_network,
    move_state,
    network_facts,
    require_data,
)
from fastmatch.cli.output import check_targets, console, progress, table
from fastmatch.cli.resume import Entries
from fastmatch.devices import device_name
from fastmatch.errors import ModelError, OptionError


@click.command(
    epilog="""\b
Example:
  fastmatch matrix runs/*.pt --plot matrix.png --json matrix.json
  fastmatch matrix a.pt b.pt c.pt d.pt --reference c.pt --method activation
  fastmatch matrix a.pt ab.safetensors ac.safetensors --align none --data mnist --limit 1000"""
)
@click.argument("networks", nargs=-1, required=True)
@click.option(
    "--align",
    type=click.Choice(["none", "reference", "pairs"]),
    default="reference",
    show_default=True,
    help="Networks as they are, all permuted to line up with one of them, or the second of each pair with the first.",
)
@click.option("--reference", metavar="CKPT", help="The network to line up with.  [default: the first]")
@click.option("--method", type=click.Choice(["weight", "activation"]), default="weight", show_default=True)
@options.seed
@options.tracing
@click.option("--alphas", default=11, show_default=True, help="Points on each line, both ends included.")
@options.bn
@options.precision
@options.memory
@options.model
@options.data
@options.data_dir
@options.limit(10_000, "Evaluate on at most N training and N test examples, a fixed subset.")
@options.device
@options.json
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw the matrix, reordered under its dendrogram.")
def matrix(
    networks: tuple[str, ...],
    align: Literal["none", "reference", "pairs"],
    reference: str | None,
    method: Literal["weight", "activation"],
    seed: int,
    tracing: Literal["export", "run"],
    alphas: int,
    bn: Literal["reset", "keep", "repair"],
    precision: Literal["highest", "fast"],
    memory: float | None,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int,
    device: torch.device,
    json_path: str | None,
    plot: str | None,
) -> None:
    """Measure the barriers between all NETWORKS, and cluster the networks by them.

    Each is a checkpoint, or an alignment, which stands for its b with the units permuted. Barriers are epsilon: the
    largest loss on the line above the larger end. Networks share a cluster where a chain of low barriers connects them.

    With --json, the file is written after every alignment and every pair, and a later run goes on from it.
    """
    if plot:
        plots.check_target(plot)
    check_tracing(method if align != "none" else "none", tracing)
    chosen = _reference(networks, align, reference)
    sources = [read_source(path, model) for path in networks]
    check_same(sources)
    check_targets(json_path, plot, inputs=[file for source in sources for file in source.files])
    first = sources[0]
    dataset = require_data(first.network, data or first.data, data_dir, limit)
    inputs = network_facts(source.sha256 for source in sources) | data_facts(dataset, limit)
    how = {**model_facts(first.network), "align": align, "reference": chosen, "method": method, "seed": seed}
    where = device_name(device)
    known = Entries(json_path, "matrix", inputs | how | {"alphas": alphas, "bn": bn}, where, precision)
    spec = None
    if align != "none":
        spec = find_spec(first.network, example_inputs(first.network, dataset), None, (), tracing)
    network = move_network(first.network, dataset, device)
    with progress("aligning and evaluating") as tick:
        found = fastmatch.analysis.population(
            network.module,
            [move_state(source.network.state_dict, device) for source in sources],
            dataset.to(device),
            align=align,
            reference=chosen,
            method=method,
            spec=spec,
            seed=seed,
            alphas=alphas,
            bn=bn,
            precision=precision,
            memory=memory,
            known=known,
            progress=tick,
        )
    titles = _titles(sources)
    _require_finite(found, titles)
    summary = {name: part for name, part in found.to_json().items() if name not in ("pairs", "permutations")}
    names = {"paths": list(networks), "model": first.network.model, "data": dataset.name}
    known.finish({**names, **summary}, seed=seed)  # pairs and permutations are its entries
    lined_up = {"none": "as they are", "reference": f"lined up with {titles[chosen]} by {method}"}
    state = lined_up.get(align, f"lined up pair by pair by {method}")
    _report(found, titles, f"{len(sources)} networks {state}, {dataset.name}, {alphas} alphas, on {where}")
    if plot:
        _draw(found, titles, plot, f"{dataset.name}, {state}")
        console.print(f"drew {plot}")


def _reference(networks: tuple[str, ...], align: str, reference: str | None) -> int:
    if len(networks) < 2:
        raise OptionError("received one network; a matrix has at least two")
    if reference is None:
        return 0
    if align != "reference":
        raise OptionError(f"--reference is for --align reference; leave it out with --align {align}")
    if reference not in networks:
        raise OptionError(f"the reference {reference} is none of the networks; name it among them too")
    return networks.index(reference)


def _titles(sources: list[Source]) -> list[str]:
    """Names without their folders, where these tell the networks apart."""
    short = [source.title for source in sources]
    return short if len(set(short)) == len(short) else [source.name for source in sources]


def _require_finite(found: Population, titles: list[str]) -> None:
    for loss, title in zip(found.ends(), titles, strict=True):
        if not np.isfinite(loss):
            raise ModelError(f"the loss of {title} is {loss}: it diverged; leave it out")


def _report(found: Population, titles: list[str], title: str) -> None:
    """A row for each network, and what the matrix says as a whole."""
    console.print(title)
    epsilon = found.epsilon()
    rows = table("network", "test loss", "error (%)", "median epsilon", "largest", "lowest", title="epsilon, test loss")
    losses, errors = found.ends(), found.ends(quantity="error")
    for number, name in enumerate(titles):
        others = np.delete(epsilon[number], number)
        figures = np.median(others), others.max(), others.min()
        shown = [f"{losses[number]:.4f}", f"{100 * errors[number]:.2f}", *(f"{value:.4f}" for value in figures)]
        rows.add_row(name, *shown)
    console.print(rows)
    low, median, high = np.quantile(found.values(), [0.25, 0.5, 0.75])
    i, j = np.unravel_index(int((epsilon - np.diag(np.full(len(titles), np.inf))).argmax()), epsilon.shape)
    error = found.epsilon(definition="max_se")[i, j]
    console.print(
        f"all pairs: median {median:.4f}, quartiles {low:.4f} and {high:.4f}; "
        f"largest {epsilon[i, j]:.4f} ± {error:.4f} ({titles[i]} - {titles[j]})"
    )
    console.print(f"one cluster from epsilon {found.clusters.connecting:.4f} on")


def _draw(found: Population, titles: list[str], path: str, title: str) -> None:
    clusters = found.clusters
    panel = plots.ClusterPanel(
        matrix=found.epsilon(),
        order=clusters.order,
        merges=clusters.merges,
        labels=titles,
        marked=found.reference,
    )
    plots.draw_clusters([panel], path, unit="epsilon, test loss (nats)", title=title)
