"""``fastmatch align``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Literal

import click
import torch

import fastmatch
from fastmatch import checkpoints
from fastmatch.cli import options
from fastmatch.cli.align_many import FOLDER, align_many
from fastmatch.cli.aligning import Request, origin, prepare
from fastmatch.cli.output import check_targets, console, progress, table, write_json
from fastmatch.cli.sparse import without_lineage
from fastmatch.devices import device_name
from fastmatch.errors import OptionError
from fastmatch.training import transport


@click.command(
    epilog="""\b
Example:
  fastmatch align a.pt b.pt
  fastmatch align a.pt b.pt --method activation
  fastmatch align a.pt b.pt --method weight --start alignment.safetensors -o better.safetensors
  fastmatch align a.pt b.pt c.pt d.pt --reference universe -o alignments
  fastmatch align a.safetensors b.safetensors --model "vgg16(width=16)" --data cifar10 --method weight --restarts 10"""
)
@click.argument("networks", metavar="A B [C]...", nargs=-1, required=True)
@options.method
@click.option(
    "--reference",
    type=click.Choice(["universe", "mean", "first", "pairwise"]),
    help="Of many networks: one order that suits all pairs best, the mean of the others, the first network, or each "
    "pair by itself; alignments go to a folder.  [default: universe, of more than two]",
)
@click.option(
    "--similarity",
    type=click.Choice(["summed", "pearson", "linear"]),
    help="Of activations.  [default: summed]",
)
@click.option("--restarts", type=int, help="Starts of weight matching; the best objective wins.")
@click.option("--steps", type=int, help="Steps of methods that take many.  [default: the method's]")
@click.option("--effort", type=click.Choice(["normal", "high"]), help="Of auto: high also descends from the best.")
@click.option("--start", metavar="FILE", help="Alignment to begin with, such as one by activations.")
@options.seed
@options.model
@options.data
@options.data_dir
@options.spec
@options.freeze
@options.tracing
@options.limit(None, "Look at most at N training examples, a fixed subset.  [default: all]")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help=f"Alignment file to write, or folder of many.  [default: {options.ALIGNMENT}, {FOLDER}]",
)
@click.option("--apply", "aligned", metavar="FILE", help="Also write b with its units permuted (.pt or .safetensors).")
@options.device
@options.json
def align(
    networks: tuple[str, ...],
    method: str,
    reference: Literal["universe", "mean", "first", "pairwise"] | None,
    similarity: str | None,
    restarts: int | None,
    steps: int | None,
    effort: str | None,
    start: str | None,
    seed: int,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    spec_path: str | None,
    freeze: tuple[str, ...],
    tracing: Literal["export", "run"],
    limit: int | None,
    output: str | None,
    aligned: str | None,
    device: torch.device,
    json_path: str | None,
) -> None:
    """Find the permutation that lines the units of B up with those of A, certify it, and write it down.

    With more networks, or --reference, one alignment of each of them to A is written, by which all of them line up with
    each other; or with --reference pairwise one of every two.
    """
    asked = {"similarity": similarity, "restarts": restarts, "steps": steps, "effort": effort}
    request = Request(method, asked, seed, model, data, data_dir, spec_path, freeze, tracing, limit, device, json_path)
    if len(networks) > 2 or reference is not None:
        options.refuse("lining up many networks", start=start, apply=aligned)
        align_many(networks, request, reference or "universe", output or FOLDER)
    elif len(networks) == 2:
        _align_two(networks, request, start, output or options.ALIGNMENT, aligned)
    else:
        raise OptionError("received one network; give at least two checkpoints to line up")


def _align_two(paths: Sequence[str], request: Request, start: str | None, output: str, aligned: str | None) -> None:
    """Line the second network up with the first, certify the alignment, write it, and the second in that order."""
    if aligned:
        checkpoints.check_suffix(aligned)
    first, second = networks = [fastmatch.load(path, request.model) for path in paths]
    inputs = [path for path in (*paths, request.spec_path, start) if path]
    check_targets(output, aligned, request.json_path, inputs=inputs)
    begin = None if start is None else fastmatch.Permutation.load(start)
    fastmatch.check_options(request.method, **request.asked, start=begin)
    given = prepare(networks, request)
    (left, right), spec = given.states, given.spec
    pair = fastmatch.Pair(spec, left, right, first.module, given.examples)
    with progress("matching") as tick:
        match = fastmatch.match(pair, request.method, **request.asked, start=begin, seed=request.seed, progress=tick)
    certificate = fastmatch.certify(spec, second.module, second.state_dict, match.permutation.indices, given.inputs)
    certificate.require("the alignment found")
    result = {**match.to_json(), "certificate": certificate.to_json()}
    sides = {"a": origin(first, output), "b": origin(second, output), "model": first.model, "data": given.source}
    metadata = {**sides, "options": request.record(start=start), "match": result}
    fastmatch.Permutation(spec, match.permutation.indices, metadata).save(output)
    if aligned:
        masks = transport(second.masks, match.permutation) if second.masks else None
        checkpoints.write(aligned, match.permutation.apply(second.state_dict), without_lineage(second.card), masks)
    write_json(request.json_path, result, seed=request.seed, device=device_name(request.device))
    _report(match, certificate, given.certified_on, request.device)
    console.print(f"wrote {output}" + (f" and {aligned}" if aligned else "") + f"; next: {_barrier_command(output)}")


def _barrier_command(alignment: str) -> str:
    named = [] if alignment == options.ALIGNMENT else [alignment]
    return shlex.join(["fastmatch", "barrier", *named, "--alphas", "25"])


def _report(match: fastmatch.Match, certificate: fastmatch.Certificate, inputs: str, device: torch.device) -> None:
    rows = table("group", "units", "fixed", "dead", "before", "after")
    for group in match.groups:
        figures = (_figure(group.objective_before), _figure(group.objective_after))
        units = " x ".join(map(str, match.permutation.indices[group.name].shape))
        dead = "-" if group.dead_units is None else str(group.dead_units)
        rows.add_row(group.name, units, str(group.fixed_points), dead, *figures)
    console.print(rows)
    console.print(
        f"{match.method} matching: {match.measure} {match.objective_before:.6g} -> {match.objective_after:.6g}, "
        f"{match.status} after {match.sweeps} sweep{'s' * (match.sweeps != 1)}, {match.seconds:.1f} s "
        f"on {device_name(device)}"
    )
    if len(match.restarts) > 1:
        console.print("objective of every start: " + ", ".join(f"{value:.6g}" for value in match.restarts))
    for note in match.notes:
        console.print(note)
    console.print(
        f"certificate: outputs of b change by at most {certificate.max_abs:.1e} ({certificate.max_rel:.1e} relative) "
        f"on {certificate.examples} {inputs}: the same function"
    )


def _figure(value: float) -> str:
    return "-" if value != value else f"{value:.4g}"
