"""Options that several commands share, declared once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import click

from fastmatch import METHODS
from fastmatch.devices import find_device
from fastmatch.errors import OptionError

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
bn = click.option(
    "--bn",
    type=click.Choice(["reset", "keep", "repair"]),
    default="reset",
    show_default=True,
    help="BatchNorm statistics: computed anew for every network evaluated, or interpolated; repair computes them anew "
    "and rescales the outputs of layers without BatchNorm to interpolated means and standard deviations (REPAIR).",
)
precision = click.option(
    "--precision",
    type=click.Choice(["highest", "fast"]),
    default="highest",
    show_default=True,
    help="float32; or bfloat16, with errors as in float32 and losses within about 0.001.",
)
memory = click.option(
    "--memory",
    metavar="SIZE",
    callback=lambda context, parameter, size: None if size is None else _bytes(size),
    help="Memory to take beside networks and data, as 500M or 4G. Default: a quarter of what is free.",
)
SEED = click.IntRange(0, 2**32 - 1)
seed = click.option("--seed", type=SEED, default=0, show_default=True, help="Seed of every random choice.")


def _bytes(size: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG])B?", size.strip(), re.IGNORECASE)
    if not found or not float(found[1]):
        raise OptionError(f"--memory {size} is not a size; write a number and K, M or G, as 500M")
    return float(found[1]) * 1024.0 ** (1 + "KMG".index(found[2].upper()))


def refuse(command: str, **given: object) -> None:
    """Raise OptionError where an option was given that does not go with this use of a command."""
    for name, value in given.items():
        if value is not None:
            raise OptionError(f"--{name} does not go with {command}; leave it out")


def limit(default: int | None, help_text: str) -> Callable[[Any], Any]:
    """Option that restricts the data to a fixed subset."""
    return click.option(
        "--limit", metavar="N", type=click.IntRange(1), default=default, show_default=True, help=help_text
    )


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


class MethodChoice(click.Choice):
    """Names of matching methods, with hyphens or underscores."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the name as it is registered."""
        return super().convert(str(value).replace("-", "_"), param, ctx)


method = click.option(
    "--method",
    type=MethodChoice(list(METHODS)),
    default="auto",
    show_default=True,
    help="How to match; `fastmatch compare-methods` runs them all.",
)
