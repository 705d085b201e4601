"""Features of interpolated networks are interpolated features where the networks are linearly connected.

Zhou et al. 2023, section 4 and appendix B.2: figure 2 (spawned networks), figure 3 (matched ones), figure 4 (both
against independent networks) and figures 8 to 13 (the same with the scale c). For every layer, the cosine of the
features of the interpolated network with the interpolated features, beside the cosine of the features of both ends. The
text of the paper gives no figures but words: cosines close to 1 in every layer for linearly connected networks, their
distance from 1 negligible beside that of independent ones, ends that differ, and c close to 1 in most cases.
"""

from __future__ import annotations

import numpy as np

from fastmatch import plots
from fastmatch.analysis import FeaturePair, Features
from studies import study
from studies.zhou_pairs import Setting, at_alpha, per_layer, settings, short_names

SMALL = {"networks": "small"}
FULL = {"networks": "full"}

# What counts as close to 1, as a small part of the independent networks' distance from it, and as a c near 1.
CLOSE, PART, NEAR = 0.95, 0.2, 0.15


def main(report: study.Report, networks: str) -> None:
    """Compare all pairs of all settings."""
    found: dict[Setting, dict[str, Features]] = {}
    rows = []
    for setting in settings(networks):
        found[setting] = {}
        for name, pair in setting.pairs().items():
            found[setting][name] = features = setting.compare(*pair)
            rows.append([setting.name, name, setting.barrier(*pair), *summary(features)])
            report.keep(f"{setting.name}, {name}", curves(features))
    columns = [
        "networks",
        "pair",
        "error barrier (%)",
        "lowest cosine",
        "mean 1 - cosine",
        "cosine of ends",
        "c",
    ]
    report.table("Layers of linearly connected and of independent networks, at the midpoint", columns, rows)
    for kind, figure in (("spawned", 2), ("matching", 3)):
        panels = [panel(s.name, name, f) for s, pairs in found.items() for name, f in pairs.items() if kind in name]
        plots.draw_curves(panels, report.picture(kind, f"As figure {figure}: cosines; bands are one sd."))
    parts = [contrast(setting.name, pairs) for setting, pairs in found.items()]
    plots.draw_curves(parts, report.picture("contrast", "As figure 4: distance from 1 at the midpoint."))
    scales = [scale(setting.name, pairs) for setting, pairs in found.items()]
    plots.draw_curves(scales, report.picture("scale", "As figures 8 to 13, right: scale c at the midpoint."))
    for setting, pairs in found.items():
        conclude(report, setting.name, pairs)


def curves(features: Features) -> dict[str, dict[str, list[float]]]:
    """Cosines and scales of every layer at every alpha, and the cosine of the ends."""
    quantities = ("cosine", "cosine_sd", "scale", "scale_sd")
    return {
        layer.name: {name: getattr(layer, name).tolist() for name in quantities} | {"baseline": [layer.baseline]}
        for layer in features.pairs["unaligned"].layers
    }


def summary(features: Features) -> list[object]:
    """Lowest cosine, mean distance from 1, range of the baseline and of c, over layers at the midpoint."""
    pair, place = features.pairs["unaligned"], features.midpoint
    cosines, scales, ends = at_alpha(pair, "cosine", place), at_alpha(pair, "scale", place), per_layer(pair, "baseline")
    spans = (f"{min(values):.2f} to {max(values):.2f}" for values in (ends, scales.tolist()))
    return [float(cosines.min()), float(1 - cosines.mean()), *spans]


def panel(setting: str, name: str, features: Features) -> plots.Panel:
    """Cosine against the layers for every alpha, and that of the ends."""
    pair = features.pairs["unaligned"]
    inner = range(1, len(features.alphas) - 1)
    curves = {f"alpha {features.alphas[n]:g}": at_alpha(pair, "cosine", n) for n in inner}
    spreads = {f"alpha {features.alphas[n]:g}": at_alpha(pair, "cosine_sd", n) for n in inner}
    title = f"{setting}\n{name}"
    return draw(pair, {**curves, "a with b": per_layer(pair, "baseline")}, "cosine", title, spreads=spreads)


def contrast(setting: str, pairs: dict[str, Features]) -> plots.Panel:
    """One minus cosine at the midpoint, for all pairs."""
    curves = {name: 1 - at_alpha(f.pairs["unaligned"], "cosine", f.midpoint) for name, f in pairs.items()}
    return draw(next(iter(pairs.values())).pairs["unaligned"], curves, "1 - cosine at 1/2", setting, log="y")


def scale(setting: str, pairs: dict[str, Features]) -> plots.Panel:
    """Scale at the midpoint, for all pairs."""
    curves = {name: at_alpha(f.pairs["unaligned"], "scale", f.midpoint) for name, f in pairs.items()}
    return draw(next(iter(pairs.values())).pairs["unaligned"], curves, "c at 1/2", setting)


def draw(pair: FeaturePair, curves: dict[str, object], ylabel: str, title: str, **more: object) -> plots.Panel:
    """Panel over the layers of a pair."""
    names = short_names(pair)
    return plots.Panel(x=range(len(names)), curves=curves, xlabel="", ylabel=ylabel, title=title, ticks=names, **more)


def conclude(report: study.Report, setting: str, pairs: dict[str, Features]) -> None:
    """Say whether the published findings came out for each connected pair."""
    cosines, scales = (
        {name: at_alpha(found.pairs["unaligned"], quantity, found.midpoint) for name, found in pairs.items()}
        for quantity in ("cosine", "scale")
    )
    independent = float(1 - cosines.pop("independent").mean())
    for name, values in cosines.items():
        near = np.mean(abs(scales[name] - 1) <= NEAR)
        apart = float(1 - values.mean())
        close = values.min() >= CLOSE and apart <= PART * independent
        report.say(
            f"{setting}, {name}: cosine at least {values.min():.3f} in every layer; distance from 1 is {apart:.4f} on "
            f"average, {100 * apart / independent:.1f} % of that of independent networks ({independent:.4f}): "
            f"{'as published' if close else 'NOT as published'} (at least {CLOSE} everywhere, at most {PART:.0%} of "
            f"theirs). c is {scales[name].min():.2f} at least and {scales[name].max():.2f} at most, in {near:.0%} of "
            f"the layers within {NEAR} of 1: {'as published' if near > 0.5 else 'NOT as published'} (in most)."
        )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
