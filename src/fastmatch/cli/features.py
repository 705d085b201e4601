"""``fastmatch features``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click
import numpy as np
import torch

import fastmatch
from fastmatch import files, plots
from fastmatch.analysis import FeaturePair, Features, LayerFeatures, Spectrum
from fastmatch.cli import options
from fastmatch.cli.barrier.sources import check_same, read_alignment, read_source
from fastmatch.cli.inputs import data_facts, model_facts, move_network, move_state, network_facts, require_data
from fastmatch.cli.output import check_targets, console, progress, table
from fastmatch.cli.resume import Entries
from fastmatch.devices import device_name
from fastmatch.errors import OptionError

LINEAR = 0.95  # Cosine from which features are said to interpolate linearly.
_COLUMNS = ("cosine 1/2", "a with b", "c", "additivity", "commute", "dist W", "dist H", "rank W", "rank H")


@click.command(
    epilog="""\b
Example:
  fastmatch features --alphas 5
  fastmatch features runs/alignment.safetensors --data mnist --limit 1000 --plot features.png --json features.json
  fastmatch features a.pt b.pt
  fastmatch features a.pt alignment.safetensors"""
)
@click.argument("networks", nargs=-1, metavar="[ALIGNMENT | A B]")
@click.option(
    "--alphas", default=5, show_default=True, help="Points on the line, both ends included; odd, for the midpoint."
)
@click.option(
    "--bn",
    type=click.Choice(["reset", "keep"]),
    default="reset",
    show_default=True,
    help="BatchNorm statistics: computed anew for every network, or interpolated and stitched like weights.",
)
@options.model
@options.data
@options.data_dir
@options.limit(2_000, "Compare on at most N test examples, a fixed subset; statistics from N training examples.")
@options.device
@options.json
@click.option("--plot", metavar="FILE", type=click.Path(), help="Draw the figures layer by layer (.png, .pdf, .svg).")
def features(
    networks: tuple[str, ...],
    alphas: int,
    bn: Literal["reset", "keep"],
    model: str | None,
    data: str | None,
    data_dir: str | None,
    limit: int,
    device: torch.device,
    json_path: str | None,
    plot: str | None,
) -> None:
    """Compare the features of interpolated networks with interpolated features, layer by layer (Zhou et al. 2023).

    ALIGNMENT (default: alignment.safetensors) is what `fastmatch align` wrote: its networks are compared before and
    after it. A B are compared as they are; each is a checkpoint, or an alignment, which stands for its b permuted.

    For every layer: the cosine of the midpoint's features with the mean features, the cosine of a's with b's, the scale
    c, additivity of ReLU, commutativity beside the distances of weights and inputs, stable ranks, and loss and error of
    networks that are a up to the layer and b behind it. With --json, a run that was stopped goes on where it was.
    """
    if plot:
        plots.check_target(plot)
    line = _read(networks or (options.ALIGNMENT,), model)
    check_targets(json_path, plot, inputs=line.files)
    dataset = require_data(line.first, data or line.data, data_dir, limit)
    network = move_network(line.first, dataset, device)
    where = device_name(device)
    inputs = network_facts(map(files.sha256, line.names)) | data_facts(dataset, limit)
    known = Entries(json_path, "features", {**inputs, **model_facts(network), "alphas": alphas, "bn": bn}, where)
    with progress("comparing") as tick:
        result = fastmatch.analysis.features(
            network.module,
            network.state_dict,
            move_state(line.second.state_dict, device),
            dataset.to(device),
            permutation=line.permutation,
            alphas=alphas,
            bn=bn,
            known=known,
            progress=tick,
        )
    known.finish(result.to_json(), seed=line.seed)
    title = " - ".join(Path(name).name for name in line.names)
    console.print(
        f"{title}, {dataset.name}: {alphas} alphas, {result.examples} test examples, on {device_name(device)}"
    )
    for name, pair in result.pairs.items():
        _report(result, pair, name)
    for name in result.pairs:
        console.print(_conclusion(result, name))
    if plot:
        plots.draw_curves(list(_panels(result)), plot, title=f"{title}, {dataset.name}")
        console.print(f"drew {plot}")


class _Line(NamedTuple):
    """Two networks, how the second is aligned, where their data are, and what files were named and read."""

    first: fastmatch.Checkpoint
    second: fastmatch.Checkpoint
    permutation: fastmatch.Permutation | None
    data: str | None
    names: tuple[str, ...]
    files: tuple[Path, ...]
    seed: int | None


def _read(paths: tuple[str, ...], model: str | None) -> _Line:
    if len(paths) > 2:
        raise OptionError(f"received {len(paths)} networks; name two, or an alignment")
    if len(paths) == 1:
        found = read_alignment(paths[0], model)
        own = Path(paths[0]), found.a.path, found.b.path
        return _Line(found.a, found.b, found.permutation, found.data, paths, own, found.seed)
    first, second = sources = [read_source(path, model) for path in paths]
    check_same(sources)
    read = tuple(file for source in sources for file in source.files)
    return _Line(first.network, second.network, None, first.data, paths, read, None)


def _report(result: Features, pair: FeaturePair, name: str) -> None:
    rows = table("layer", *_COLUMNS, "stitched loss", "error (%)", title=name if len(result.pairs) > 1 else None)
    place = result.midpoint
    for layer in pair.layers:
        stitch = pair.stitch(layer.name)
        rows.add_row(
            layer.name,
            f"{layer.cosine[place]:.4f} ± {layer.cosine_sd[place]:.4f}",
            f"{layer.baseline:.4f}",
            f"{layer.scale[place]:.3f}",
            *map(_figure, (layer.largest_additivity, layer.commutativity, layer.weight_distance, layer.input_distance)),
            _ranks(layer.weights),
            _ranks(layer.activations),
            "-" if stitch is None else f"{stitch.loss:.4f}",
            "-" if stitch is None else f"{100 * stitch.error:.2f}",
        )
    console.print(rows)
    silent = max(layer.silent for layer in pair.layers)
    if silent:
        console.print(f"up to {silent} examples have no features but zeros in a layer; means leave them out")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ranks(spectra: tuple[Spectrum, Spectrum] | None) -> str:
    return "-" if spectra is None else " ".join(f"{spectrum.stable_rank:.1f}" for spectrum in spectra)


def _conclusion(result: Features, name: str) -> str:
    """What the figures of a pair mean, in a line."""
    pair, lowest = result.pairs[name], result.lowest(name)
    cosine = float(np.nan_to_num(lowest.cosine[result.midpoint]))
    if cosine >= LINEAR:
        words = f"features interpolate linearly: cosine at least {cosine:.3f} in every layer"
    else:
        words = f"features do not interpolate linearly: cosine {cosine:.3f} in {lowest.name} (linear from {LINEAR})"
    b, *between, a = (100 * stitch.error for stitch in pair.stitching)
    prefix = f"{name}: " if len(result.pairs) > 1 else ""
    stitched = f"; stitched error up to {max(between):.2f} %" if between else "; no place to stitch"
    return f"{prefix}{words}{stitched}, a {a:.2f} %, b {b:.2f} %"


def _panels(result: Features) -> Iterator[plots.Panel]:
    """Cosines, distances and stitched errors against the layers."""
    first = next(iter(result.pairs.values()))
    x, place, names = np.arange(len(first.layers)), result.midpoint, [layer.name for layer in first.layers]

    def curves(value: Any, suffix: str = "") -> dict[str, list[float]]:
        return {
            f"{name}{suffix}": [_or_nan(value(pair, layer)) for layer in pair.layers]
            for name, pair in result.pairs.items()
        }

    cosines = curves(lambda _, layer: layer.cosine[place]) | curves(lambda _, layer: layer.baseline, ", a with b")
    spreads = curves(lambda _, layer: layer.cosine_sd[place])
    yield plots.Panel(x=x, curves=cosines, spreads=spreads, xlabel="", ticks=names, ylabel="cosine of features at 1/2")
    commuting = curves(lambda _, layer: layer.commutativity)
    yield plots.Panel(x=x, curves=commuting, xlabel="", ticks=names, ylabel="commutativity: normalised distance")
    yield plots.Panel(
        x=x, curves=curves(_stitched_error), xlabel="", ticks=names, ylabel="error of a up to a layer, then b (%)"
    )


def _stitched_error(pair: FeaturePair, layer: LayerFeatures) -> float | None:
    stitch = pair.stitch(layer.name)
    return None if stitch is None else 100 * stitch.error


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
