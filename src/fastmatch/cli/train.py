"""``fastmatch train``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

import fastmatch
from fastmatch import checkpoints, training
from fastmatch.cli import options, sparse
from fastmatch.cli.output import check_targets, console, progress, write_json
from fastmatch.devices import device_name
from fastmatch.errors import OptionError, OutputError


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
  fastmatch train --from run/step-000470.pt --order-seed 7 -o child.pt
  fastmatch train "mlp(64, 512, 10)" --data digits --prune 0.2 --levels 10 --rewind 24 -o a.pt
  fastmatch train --from b/rewind.pt --mask a/level-05.pt --alignment ab.safetensors --rewind 24 -o b-sparse.pt"""
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
@click.option("--prune", type=float, help="Fraction of the smallest remaining weights that every level prunes.")
@click.option("--levels", type=int, help="How often to prune, rewind and train again.  [default: 1]")
@click.option(
    "--rewind",
    type=int,
    metavar="STEP",
    help="Step that the levels of --prune go back to, or training with --mask begins at.  [default: 0]",
)
@click.option(
    "--rewinding",
    type=click.Choice(training.REWINDINGS),
    help="What goes back: weights and learning rate, or the learning rate alone.  [default: weights]",
)
@click.option(
    "--prune-scope",
    type=click.Choice(training.SCOPES),
    help="Compare the weights of the whole network or of each layer.  [default: global]",
)
@click.option("--mask", metavar="CKPT", help="Train under the masks of this pruned network.")
@click.option("--alignment", metavar="FILE", help="Alignment of networks a, b: carry the masks, a's, to b.")
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
    mask: str | None,
    alignment: str | None,
    output: str,
    device: torch.device,
    json_path: str | None,
    **chosen_options: Any,
) -> None:
    """Train MODEL, or go on from a checkpoint, and write a checkpoint that carries its own card.

    With --save-epochs or --save-steps the folder OUT (without suffix) holds the trajectory, step-000123.pt and so on.

    With --prune, levels of iterative magnitude pruning follow the dense training. The folder OUT holds them,
    level-00.pt (dense), level-01.pt and so on, and rewind.pt, the dense network at the step that levels go back to. The
    same command goes on where it was interrupted, and adds levels to those that are there.

    A pruned network that --from names stays pruned. Masks of --mask may be those of another network: --alignment, as
    `fastmatch align A B` wrote it, carries the masks of (a pruned) A to B, which MODEL or --from then is.
    """
    checkpoints.check_suffix(output)
    check_targets(output, json_path, inputs=[path for path in (parent, mask, alignment) if path])
    recipe = dict(chosen_options)
    asked = sparse.PruningOptions(**{name: recipe.pop(name) for name in sparse.PruningOptions._fields})
    pruning = asked.pruning(mask)
    seeds = {name: seed if recipe[name] is None else recipe[name] for name in ("init_seed", "order_seed")}
    chosen = training.Recipe(**{**recipe, **seeds})
    if pruning and (mask or chosen.save_epochs or chosen.save_steps):
        raise OptionError("--prune finds masks and keeps levels: leave out --mask, --save-epochs and --save-steps")
    start = _load_parent(parent, model) if parent else None
    name, module = (start.model, start.module) if start else _fresh(model, chosen)
    masks = sparse.find_masks(mask, alignment, start)
    if pruning and masks:
        raise OptionError(f"{parent} is pruned already; use --prune on a dense network, or leave it out")
    source = data or (start.card.data if start and start.card else None)
    if source is None:
        raise click.UsageError("say what to train on with --data, for example --data digits")
    dataset = fastmatch.load_data(source, limit=limit, data_dir=data_dir, label_noise=label_noise)
    started = sparse.origin(name, module, dataset, limit)
    # Training under masks goes on with a network of a run, whose units stay where they are.
    run = (sparse.lineage_of(start.card) if start and masks else None) or sparse.lineage(started, chosen)
    about = {"recipe": asdict(chosen), "limit": limit, "label_noise": label_noise, "from": parent}
    card = checkpoints.Card(
        model=name if fastmatch.networks.is_builtin(name) else None,
        data=source if fastmatch.is_builtin_data(source) else None,
        init_seed=None if parent else chosen.init_seed,
        order_seed=chosen.order_seed,
        extra=about | ({"mask": mask, "alignment": alignment} if mask else {}) | {"lineage": run},
    )
    if pruning:
        sparse.prune_levels(module, dataset, chosen, pruning, card, started, output, json_path, device)
        return
    result = _train(module, dataset, chosen, card, masks, asked.rewind or 0, output, device)
    for split in ("train", "test"):
        loss, accuracy = getattr(result, f"{split}_loss"), getattr(result, f"{split}_accuracy")
        console.print(f"{split:5}  loss {loss:.4f}  accuracy {100 * accuracy:.2f} %")
    kept = f", {100 * training.density(masks, training.twins(module.state_dict())):.2f} % of weights" if masks else ""
    where = device_name(device)
    console.print(f"wrote {output} ({name}{kept}, {source}, {result.steps} steps, {result.seconds:.1f} s on {where})")
    write_json(json_path, asdict(result), seed=seed, device=where)


def _train(
    module: torch.nn.Module,
    dataset: fastmatch.DataSet,
    recipe: training.Recipe,
    card: checkpoints.Card,
    masks: checkpoints.Masks | None,
    begin: int,
    output: str,
    device: torch.device,
) -> training.TrainResult:
    """Train once, and write the network and its trajectory."""
    folder = Path(output).with_suffix("")
    if (recipe.save_epochs or recipe.save_steps) and os.path.lexists(folder) and not folder.is_dir():
        what = "it is a file" if folder.is_file() else "it is no folder"
        raise OutputError(f"cannot write the trajectory to {folder}: {what}; choose another --output")

    def save(snapshot: training.Snapshot) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{snapshot.step:06d}{Path(output).suffix}"
        checkpoints.write(path, snapshot.state_dict, card.at(snapshot.step, snapshot.epoch), masks)

    with progress("training") as tick:
        result = training.train(
            module, dataset, recipe, masks=masks, begin=begin, save=save, progress=tick, device=device
        )
    checkpoints.write(output, module.state_dict(), card.at(begin + result.steps, result.epochs), masks)
    return result


def _fresh(model: str | None, recipe: training.Recipe) -> tuple[str, torch.nn.Module]:
    if model is None:
        raise click.UsageError('name a network such as "mlp(64, 512, 10)", or a checkpoint with --from')
    return model, training.initialise(model, recipe.init, recipe.init_seed)


def _load_parent(path: str, model: str | None) -> fastmatch.Checkpoint:
    network = fastmatch.load(path, model)
    if network.model == "program":
        raise fastmatch.CheckpointError(f"{path} is an exported program, which cannot be trained; use a .pt checkpoint")
    return network
