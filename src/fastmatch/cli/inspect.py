"""``fastmatch inspect``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import click

import fastmatch
from fastmatch.cli import options
from fastmatch.cli.inputs import example_inputs, find_data
from fastmatch.cli.output import check_targets, console, table, write_json


@click.command(
    epilog="""\b
Example:
  fastmatch inspect a.pt
  fastmatch inspect weights.safetensors --model "resnet20(width=4)" --json groups.json"""
)
@click.argument("checkpoint")
@options.model
@options.data
@options.data_dir
@options.json
def inspect(checkpoint: str, model: str | None, data: str | None, data_dir: str | None, json_path: str | None) -> None:
    """Show which parameter axes of CHECKPOINT share a permutation, and what is fixed and why.

    The groups are certified: random permutations of all of them must leave the outputs as they are.
    """
    check_targets(json_path, inputs=(checkpoint,))
    network = fastmatch.load(checkpoint, model)
    dataset = find_data(network, data, data_dir)
    inputs = example_inputs(network, dataset)
    spec = fastmatch.trace(network.module, inputs)
    certificate = spec.certify(network.module, inputs)
    groups = [
        {
            "name": group.name,
            "size": group.size,
            "base": list(group.base),
            "axes": [str(place) for place in group.occurrences],
        }
        for group in spec.groups
    ]
    pinned = [{"axis": pin.axis, "reason": pin.reason} for pin in spec.pinned]
    certificate.require("a random permutation of these groups")
    write_json(json_path, {"groups": groups, "pinned": pinned, "certificate": certificate.to_json()})
    _report(spec, network.model)
    console.print(
        f"certificate: random permutations of all groups change the outputs by {certificate.max_rel:.1e} relative: "
        "the same function"
    )


def _report(spec: fastmatch.PermutationSpec, model: str) -> None:
    console.print(f"{model}: {len(spec.groups)} groups of units, {len(spec.tensors)} tensors")
    rows = table("group", "units", "moves these axes together")
    rows.columns[2].justify, rows.columns[2].no_wrap = "left", False
    for group in spec.groups:
        rows.add_row(group.name, str(group.size), _shorten(str(place) for place in group.occurrences))
    console.print(rows)
    reasons: dict[str, list[str]] = defaultdict(list)
    for pin in spec.pinned:
        reasons[pin.reason].append(pin.axis)
    fixed = table("fixed, because", "axes")
    fixed.columns[1].justify, fixed.columns[1].no_wrap = "left", False
    for reason, axes in reasons.items():
        fixed.add_row(reason, _shorten(dict.fromkeys(axes)))
    console.print(fixed)


def _shorten(axes: Iterable[str], most: int = 6) -> str:
    names = list(axes)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
