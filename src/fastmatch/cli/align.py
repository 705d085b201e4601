"""``fastmatch align``."""

from __future__ import annotations

import shlex
from typing import Any, Literal

import click
import torch

import fastmatch
from fastmatch import checkpoints
from fastmatch.cli import options
from fastmatch.cli.align_many import FOLDER, align_many, origin
from fastmatch.cli.inputs import check_tracing, example_inputs, find_data, find_spec, move_state, require_data
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
@click.option("--effort", type=click.Choice(["normal", "high"]), help="Of auto: high also descends from the better.")
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
    if len(networks) > 2 or reference is not None:
        options.refuse(
            "lining up many networks",
            start=start,
            apply=aligned,
        )
        align_many(
            networks,
            method=method,
            asked={"similarity": similarity, "restarts": restarts, "steps": steps, "effort": effort},
            reference=reference or "universe",
            seed=seed,
            model=model,
            data=data,
            data_dir=data_dir,
            spec_path=spec_path,
            freeze=freeze,
            tracing=tracing,
            limit=limit,
            folder=output or FOLDER,
            device=device,
            json_path=json_path,
        )
        return
    if len(networks) < 2:
        raise OptionError("received one network; give at least two checkpoints to line up")
    a, b = networks
    output = output or options.ALIGNMENT
    if aligned:
        checkpoints.check_suffix(aligned)
    first, second = fastmatch.load(a, model), fastmatch.load(b, model)
    check_targets(output, aligned, json_path, inputs=[path for path in (a, b, spec_path, start) if path])
    check_tracing(method, tracing)
    asked: dict[str, Any] = {"similarity": similarity, "restarts": restarts, "steps": steps, "effort": effort}
    begin = None if start is None else fastmatch.Permutation.load(start)
    fastmatch.check_options(method, **asked, start=begin)
    optional = fastmatch.METHODS[method].needs == "weights"
    dataset = (find_data if optional else require_data)(first, data, data_dir, limit)
    inputs = example_inputs(first, dataset)
    spec = find_spec(first, inputs, spec_path, freeze, tracing)
    if spec_path:
        spec.certify(first.module, inputs).require(f"a random permutation of the groups in {spec_path}")
    for path, network in ((a, first), (b, second)):
        spec.check_state(network.state_dict, path)
    left, right = (move_state(network.state_dict, device) for network in (first, second))
    examples = dataset.train.to(device) if dataset is not None and tracing == "export" else None
    pair = fastmatch.Pair(spec, left, right, first.module, examples)
    with progress("matching") as tick:
        match = fastmatch.match(pair, method, **asked, start=begin, seed=seed, progress=tick)
    certificate = fastmatch.certify(spec, second.module, second.state_dict, match.permutation.indices, inputs)
    certificate.require("the alignment found")
    result = {**match.to_json(), "certificate": certificate.to_json()}
    source = dataset.name if dataset is not None else None
    sides = {"a": origin(first, output), "b": origin(second, output), "model": first.model, "data": source}
    chosen = {"method": method, **asked, "start": start, "seed": seed, "limit": limit, "spec": spec_path}
    chosen |= {"freeze": list(freeze), "tracing": tracing}
    metadata = {**sides, "options": chosen, "match": result}
    fastmatch.Permutation(spec, match.permutation.indices, metadata).save(output)
    if aligned:
        masks = transport(second.masks, match.permutation) if second.masks else None
        checkpoints.write(aligned, match.permutation.apply(second.state_dict), without_lineage(second.card), masks)
    write_json(json_path, result, seed=seed, device=device_name(device))
    _report(match, certificate, f"{source} examples" if source else "random inputs", device)
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
