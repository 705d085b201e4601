"""``fastmatch inspect``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import click

import fastmatch
from fastmatch import files
from fastmatch.cli import options
from fastmatch.cli.inputs import example_inputs, find_data, find_spec
from fastmatch.cli.output import check_targets, console, table, write_json

RUN_LOSES = (
    "traced one run: branches that depend on data are followed as taken, and groups inside operations that run as one "
    "(recurrent layers) are fixed"
)


@click.command(
    epilog="""\b
Example:
  fastmatch inspect a.pt
  fastmatch inspect weights.safetensors --model "resnet20(width=4)" --json groups.json
  fastmatch inspect net.pt2 --certify --freeze 'layer1.*' --export spec.json"""
)
@click.argument("checkpoint")
@options.model
@options.data
@options.data_dir
@options.spec
@options.freeze
@options.tracing
@click.option("--certify/--no-certify", default=True, show_default=True, help="Prove the groups by example.")
@click.option("--export", metavar="FILE", help="Write the spec as JSON, to edit and to give with --spec.")
@options.json
def inspect(
    checkpoint: str,
    model: str | None,
    data: str | None,
    data_dir: str | None,
    spec_path: str | None,
    freeze: tuple[str, ...],
    tracing: Literal["export", "run"],
    certify: bool,
    export: str | None,
    json_path: str | None,
) -> None:
    """Show which parameter axes of CHECKPOINT share a permutation, and what is fixed and why.

    The certificate permutes all groups at random, in double precision: the outputs must stay what they are.
    """
    check_targets(json_path, export, inputs=[path for path in (checkpoint, spec_path) if path])
    network = fastmatch.load(checkpoint, model)
    dataset = find_data(network, data, data_dir)
    inputs = example_inputs(network, dataset)
    spec = find_spec(network, inputs, spec_path, freeze, tracing)
    certificate = spec.certify(network.module, inputs) if certify else None
    if certificate is not None:
        certificate.require("a random permutation of these groups")
    _report(spec, network.model, RUN_LOSES if tracing == "run" and not spec_path else None)
    if certificate is not None:
        console.print(
            f"certificate: random permutations of all groups change the outputs by {certificate.max_rel:.1e} relative: "
            "the same function"
        )
    result = {
        "groups": [_describe(group) for group in spec.groups],
        "pinned": [{"axis": pin.axis, "reason": pin.reason} for pin in spec.pinned],
        "certificate": certificate.to_json() if certificate else None,
        "tracing": "spec" if spec_path else tracing,
    }
    write_json(json_path, result)
    if export:
        files.write_text(export, json.dumps(spec.to_json(), indent=1) + "\n")
        console.print(f"wrote {export}")


def _describe(group: fastmatch.Group) -> dict[str, object]:
    axes = [str(place) for place in group.occurrences]
    return {"name": group.name, "size": group.size, "base": list(group.base), "axes": axes}


def _report(spec: fastmatch.PermutationSpec, model: str, warning: str | None) -> None:
    console.print(f"{model}: {len(spec.groups)} groups of units, {len(spec.tensors)} tensors")
    if warning:
        console.print(warning)
    rows = table("group", "units", "moves these axes together")
    rows.columns[2].justify, rows.columns[2].no_wrap = "left", False
    for names, group in _alike(spec.groups):
        name = group.name if len(names) == 1 else f"{_pattern(group.name)} ({len(names)} alike)"
        units = "".join(f"{spec.sizes[base]} x " for base in group.base) + str(group.size)
        rows.add_row(name, units, _shorten(str(place) for place in group.occurrences))
    console.print(rows)
    reasons: dict[str, list[str]] = {}
    for pin in spec.pinned:
        reasons.setdefault(_pattern(pin.reason), []).append(_pattern(pin.axis))
    fixed = table("fixed, because", "axes")
    fixed.columns[1].justify, fixed.columns[1].no_wrap = "left", False
    for reason, axes in reasons.items():
        fixed.add_row(reason, _shorten(dict.fromkeys(axes)))
    console.print(fixed)


def _alike(groups: Sequence[fastmatch.Group]) -> list[tuple[list[str], fastmatch.Group]]:
    """Groups that differ in the numbers of their layers only, with the first of each kind."""
    kinds: dict[tuple[object, ...], tuple[list[str], fastmatch.Group]] = {}
    for group in groups:
        axes = tuple(_pattern(str(place)) for place in group.occurrences)
        kind = (group.size, axes, _pattern(group.name), tuple(map(_pattern, group.base)))
        kinds.setdefault(kind, ([], group))[0].append(group.name)
    return list(kinds.values())


def _pattern(text: str) -> str:
    """Text with the numbers of layers, which stand alone between dots, as stars."""
    return re.sub(r"(?<=\.)\d+(?=\.)", "*", text)


def _shorten(axes: Iterable[str], most: int = 6) -> str:
    names = list(axes)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
