"""Networks that are one of a pair up to a layer and the other behind it, without a layer between, work as the ends do.

Zhou et al. 2023, appendix B.4: tables 1 (MLP on MNIST), 2 (VGG-16 on CIFAR-10) and 3 (ResNet-20 on CIFAR-10, cut behind
blocks), for spawned networks; here for matched and independent ones too.
"""

from __future__ import annotations

import numpy as np

from fastmatch import plots
from fastmatch.analysis import FeaturePair
from studies import study
from studies.zhou_pairs import settings, short_name

SMALL = {"networks": "small"}
FULL = {"networks": "full"}

# Network, data and table of spawned pairs, by the start of the names of our settings, and test error in per cent, layer
# by layer.
PUBLISHED = {
    "MLP": ("MLP on MNIST (table 1)", [2.69, 2.11, 1.92]),
    "VGG": (
        "VGG-16 on CIFAR-10 (table 2)",
        [7.2, 8.43, 8.39, 9.91, 11.84, 9.55, 8.22, 7.61, 6.99, 7.05, 6.91, 6.88, 6.88, 7.07, 6.92],
    ),
    "ResNet-20": ("ResNet-20 on CIFAR-10 (table 3)", [10.88, 10.57, 13.35, 10.64, 10.74, 10.55, 12.27, 11.8, 8.99]),
}
CLOSE = 5.0  # Points of error within which a network is called close to its ends: the spread of table 2.


def main(report: study.Report, networks: str) -> None:
    """Stitch all pairs of all settings."""
    panels = []
    for setting in settings(networks):
        pairs = {name: setting.compare(*pair, alphas=3).pairs["unaligned"] for name, pair in setting.pairs().items()}
        between = [stitch.after for stitch in next(iter(pairs.values())).stitching[1:-1]]
        rows = [[name, errors(pair)[0], errors(pair)[-1], errors(pair)[1:-1]] for name, pair in pairs.items()]
        if "spawned" in pairs:  # the tables have no other pairs
            network, published = next(PUBLISHED[word] for word in PUBLISHED if setting.name.startswith(word))
            rows.append([f"published, spawned, {network}", "", "", published])
        title = f"{setting.name}: test error in % behind {', '.join(map(str, between))}"
        report.table(title, ["pair", "b alone", "a alone", "a up to the layer, then b"], rows)
        panels.append(panel(setting.name, pairs))
        for name, pair in pairs.items():
            conclude(report, setting.name, name, errors(pair))
    plots.draw_curves(panels, report.picture("errors", "As tables 1 to 3: test errors of stitched networks."))


def errors(pair: FeaturePair) -> list[float]:
    """Test errors in per cent, from b alone to a alone."""
    return [100 * stitch.error for stitch in pair.stitching]


def panel(setting: str, pairs: dict[str, FeaturePair]) -> plots.Panel:
    """Errors against the place of the cut."""
    stitches = next(iter(pairs.values())).stitching
    names = ["b", *(short_name(str(stitch.after)) for stitch in stitches[1:-1])]
    curves = {name: errors(pair) for name, pair in pairs.items()}
    return plots.Panel(
        x=range(len(stitches)), curves=curves, xlabel="a up to", ylabel="test error (%)", title=setting,
        ticks=[*names, "a"], log="y",
    )  # fmt: skip


def conclude(report: study.Report, setting: str, name: str, found: list[float]) -> None:
    """Say how far the stitched networks are from the ends, and whether that is as published."""
    worst, ends = max(found[1:-1]), max(found[0], found[-1])
    close = worst - ends <= CLOSE
    place = "close to the ends" if close else "not close to the ends"
    verdict = f", {'as' if close else 'NOT as'} published" if name == "spawned" else ""
    report.say(
        f"{setting}, {name}: errors of stitched networks {np.mean(found[1:-1]):.2f} % on average and {worst:.2f} % at "
        f"most, of the ends up to {ends:.2f} %: {place} (within {CLOSE:g} points of error){verdict}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
