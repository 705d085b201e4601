"""Options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from fastmatch.devices import find_device

ALIGNMENT = "alignment.safetensors"  # What `align` writes and `barrier` reads where no file is named.

model = click.option(
    "--model",
    metavar="MODEL",
    help="Network: mlp(64, 512, 10), resnet20(width=4), file.py:function. Default: the card's.",
)
data = click.option(
    "--data", metavar="DATA", help="Data: digits, mnist, cifar10, file.npz, file.py:function. Default: the card's."
)
data_dir = click.option(
    "--data-dir",
    metavar="DIR",
    type=click.Path(),
    help="Folder of mnist.npz and cifar10.npz. Default: $FASTMATCH_DATA.",
)
json = click.option("--json", "json_path", metavar="FILE", type=click.Path(), help="Write the result as JSON.")
device = click.option(
    "--device",
    metavar="DEVICE",
    default="auto",
    show_default=True,
    callback=lambda context, parameter, name: find_device(name),
    help="Where to compute: auto (a GPU if there is one), cpu, cuda, cuda:1.",
)
SEED = click.IntRange(0, 2**32 - 1)
seed = click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of every random choice.")


def limit(default: int | None, help_text: str) -> Callable[[Any], Any]:
    """Option that restricts the data to a fixed subset."""
    return click.option("--limit", metavar="N", type=int, default=default, show_default=True, help=help_text)


spec = click.option(
    "--spec", "spec_path", metavar="FILE", help="Permutation spec to use instead of tracing; see inspect --export."
)
freeze = click.option(
    "--freeze", metavar="PATTERN", multiple=True, help="Keep the groups of that name in order, e.g. 'layer1.*'."
)
tracing = click.option(
    "--tracing",
    type=click.Choice(["export", "run"]),
    default="export",
    show_default=True,
    help="Follow the exported network, or the operations of one run, where export fails.",
)
