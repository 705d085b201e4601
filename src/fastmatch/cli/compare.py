"""``fastmatch compare``."""

from __future__ import annotations

import click

import fastmatch
from fastmatch.cli import options
from fastmatch.cli.output import check_targets, console, table, write_json


@click.command(
    epilog="""\b
Example:
  fastmatch align a.pt b.pt --method weight -o weight.safetensors
  fastmatch align a.pt b.pt --method activation -o activation.safetensors
  fastmatch compare weight.safetensors activation.safetensors"""
)
@click.argument("first")
@click.argument("second")
@options.json
def compare(first: str, second: str, json_path: str | None) -> None:
    """Count the places to which two alignments take the same unit: fixed points, per group and in all."""
    check_targets(json_path, inputs=(first, second))
    one, other = fastmatch.Permutation.load(first), fastmatch.Permutation.load(second)
    fixed = one.fixed_points(other)
    sizes = {group.name: group.size for group in one.spec.groups}
    rows = table("group", "units", "same in both", "share")
    for name, size in sizes.items():
        rows.add_row(name, str(size), str(fixed[name]), f"{100 * fixed[name] / size:.1f} %")
    units, same = sum(sizes.values()), sum(fixed.values())
    rows.add_row("all", str(units), str(same), f"{100 * same / max(units, 1):.1f} %")
    console.print(rows)
    console.print(f"two random permutations of {len(sizes)} groups would share about {len(sizes)} of {units} units")
    groups = [{"name": name, "size": size, "fixed_points": fixed[name]} for name, size in sizes.items()]
    write_json(json_path, {"groups": groups, "units": units, "fixed_points": same})
