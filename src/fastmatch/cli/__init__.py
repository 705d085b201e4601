"""The command line: parse, load, one public call, print."""

from __future__ import annotations

import sys

import click
import torch

from fastmatch import FastmatchError
from fastmatch.cli.align import align
from fastmatch.cli.barrier import barrier
from fastmatch.cli.compare import compare
from fastmatch.cli.compare_methods import compare_methods
from fastmatch.cli.features import features
from fastmatch.cli.inspect import inspect
from fastmatch.cli.matrix import matrix
from fastmatch.cli.merge import merge
from fastmatch.cli.train import train
from fastmatch.cli.trajectory import trajectory


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="""\b
Example:
  fastmatch train "mlp(64, 512, 512, 10)" --data digits --seed 0 -o a.pt
  fastmatch train "mlp(64, 512, 512, 10)" --data digits --seed 1 -o b.pt
  fastmatch align a.pt b.pt --method activation
  fastmatch barrier --alphas 25 --plot barrier.png""",
)
@click.version_option(package_name="fastmatch")
@click.pass_context
def cli(context: click.Context) -> None:
    """Align neural networks up to permutation of their units, certify it, and measure the barrier between them."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (train, align, barrier, matrix, merge, trajectory, features, inspect, compare, compare_methods):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors a user can meet end in one line and exit code 2."""
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except FastmatchError as error:
        _fail(" ".join(str(error).split()))
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        _fail(error.format_message().rstrip(".") + hint)
    except click.ClickException as error:
        _fail(error.format_message())
    except torch.OutOfMemoryError as error:
        _fail(f"{str(error).partition('.')[0]}; use --device cpu")
    except OSError as error:  # a name too long, a folder that vanished: what no room foresaw
        _fail(f"{error}; check the paths and the disk")
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(130)


def _fail(message: str) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(2)
