"""``fastmatch train``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

import fastmatch
from fastmatch import checkpoints, training
from fastmatch.cli import options
from fastmatch.cli.output import check_targets, console, progress, write_json
from fastmatch.devices import device_name
from fastmatch.errors import OutputError


def _numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in value.split(",")) if value else ()
    except ValueError:
        raise click.BadParameter(f"{value!r} is not a list of whole numbers such as 0,1,2,5") from None


@click.command(
    epilog="""\b
Example:
  fastmatch train "mlp(64, 512, 512, 10)" --data digits --seed 0 -o a.pt
  fastmatch train "resnet20(width=1, in_channels=1, size=28)" --data mnist --save-epochs 0,1,2,5 -o run.pt
  fastmatch train --from run/step-000470.pt --order-seed 7 -o child.pt"""
)
@click.argument("model", required=False)
@options.data
@options.data_dir
@options.limit(None, "Use at most N training and N test examples, a fixed subset.")
@click.option("--label-noise", default=0.0, show_default=True, help="Fraction of training labels replaced at random.")
@click.option("--from", "parent", metavar="CKPT", help="Start from a checkpoint instead of fresh weights (spawning).")
@click.option("--optimizer", type=click.Choice(training.OPTIMIZERS), default="adam", show_default=True)
@click.option("--lr", default=1e-3, show_default=True, help="(Largest) learning rate.")
@click.option("--momentum", default=0.9, show_default=True, help="Of sgd and rmsprop.")
@click.option("--weight-decay", default=0.0, show_default=True)
@click.option("--schedule", type=click.Choice(training.SCHEDULES), default="cosine", show_default=True)
@click.option("--warmup", default=0.0, show_default=True, help="Epochs of linear warm-up.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--batch-size", default=128, show_default=True)
@click.option("--init", type=click.Choice(training.INITS), default="default", show_default=True)
@click.option(
    "--seed", type=options.SEED, default=0, show_default=True, help="Seed of initial weights and data order alike."
)
@click.option("--init-seed", type=options.SEED, help="Seed of the initial weights alone.")
@click.option("--order-seed", type=options.SEED, help="Seed of the data order alone.")
@click.option(
    "--save-epochs", callback=_numbers, metavar="LIST", help="Also save after these epochs, in a folder beside OUT."
)
@click.option("--save-steps", callback=_numbers, metavar="LIST", help="Also save after these steps.")
@click.option(
    "-o", "--output", default="model.pt", show_default=True, help="Checkpoint to write (.pt or .safetensors)."
)
@options.device
@options.json
def train(
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int | None,
    label_noise: float,
    parent: str | None,
    seed: int,
    output: str,
    device: torch.device,
    json_path: str | None,
    **recipe: Any,
) -> None:
    """Train MODEL, or go on from a checkpoint, and write a checkpoint that carries its own card.

    With --save-epochs or --save-steps the folder OUT (without suffix) holds the trajectory, step-000123.pt and so on.
    """
    checkpoints.check_suffix(output)
    check_targets(output, json_path, inputs=[parent] if parent else [])
    seeds = {name: seed if recipe[name] is None else recipe[name] for name in ("init_seed", "order_seed")}
    chosen = training.Recipe(**{**recipe, **seeds})
    name, module, card_data = _start(model, parent, chosen)
    source = data or card_data
    if source is None:
        raise click.UsageError("say what to train on with --data, for example --data digits")
    dataset = fastmatch.load_data(source, limit=limit, data_dir=data_dir, label_noise=label_noise)
    card = checkpoints.Card(
        model=name if fastmatch.networks.is_builtin(name) else None,
        data=source if fastmatch.is_builtin_data(source) else None,
        init_seed=None if parent else chosen.init_seed,
        order_seed=chosen.order_seed,
        extra={"recipe": asdict(chosen), "limit": limit, "label_noise": label_noise, "from": parent},
    )
    folder = Path(output).with_suffix("")
    if (chosen.save_epochs or chosen.save_steps) and folder.is_file():
        raise OutputError(f"cannot write the trajectory to {folder}: it is a file; choose another --output")

    def save(snapshot: training.Snapshot) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{snapshot.step:06d}{Path(output).suffix}"
        checkpoints.write(path, snapshot.state_dict, card.at(snapshot.step, snapshot.epoch))

    with progress("training") as tick:
        result = training.train(module, dataset, chosen, save=save, progress=tick, device=device)
    checkpoints.write(output, module.state_dict(), card.at(result.steps, result.epochs))
    for split in ("train", "test"):
        loss, accuracy = getattr(result, f"{split}_loss"), getattr(result, f"{split}_accuracy")
        console.print(f"{split:5}  loss {loss:.4f}  accuracy {100 * accuracy:.2f} %")
    where = device_name(device)
    console.print(f"wrote {output} ({name}, {source}, {result.steps} steps, {result.seconds:.1f} s on {where})")
    write_json(json_path, asdict(result), seed=seed, device=where)


def _start(model: str | None, parent: str | None, recipe: training.Recipe) -> tuple[str, torch.nn.Module, str | None]:
    """Model string, network and, where a parent's card names them, data."""
    if parent is None:
        if model is None:
            raise click.UsageError('name a network such as "mlp(64, 512, 10)", or a checkpoint with --from')
        return model, training.initialise(model, recipe.init, recipe.init_seed), None
    network = fastmatch.load(parent, model)
    if network.model == "program":
        raise fastmatch.CheckpointError(
            f"{parent} is an exported program, which cannot be trained; use a .pt checkpoint"
        )
    return network.model, network.module, network.card.data if network.card else None
