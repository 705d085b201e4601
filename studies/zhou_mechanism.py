"""Why features interpolate: ReLU is nearly additive, and the layers of connected networks commute.

Zhou et al. 2023, section 5.1 and appendix B.3: figures 5 and 6 (normalised distance between ReLU of interpolated
pre-activations and interpolated ReLUs, the largest over alpha, mean over test examples) and figures 7, 16, 17, 18
(commutativity, beside the distances of the weights and of the inputs of each layer) and 19 (commutativity beside that
of independent networks). The text of the paper gives no figures but words: both distances are negligible for spawned
and for matched networks, though weights and inputs differ. The first layer commutes by definition and is left out.
"""

from __future__ import annotations

import numpy as np

from fastmatch import plots
from fastmatch.analysis import FeaturePair
from studies import study
from studies.zhou_pairs import per_layer, settings, short_names

SMALL = {"networks": "small"}
FULL = {"networks": "full"}

PART = 0.5  # A distance is called small beside another where it is at most this part of it, over the layers together.
WORDS = {True: "as published", False: "NOT as published"}


def main(report: study.Report, networks: str) -> None:
    """Compare all pairs of all settings."""
    found = {
        setting.name: {name: setting.compare(*pair).pairs["unaligned"] for name, pair in setting.pairs().items()}
        for setting in settings(networks)
    }
    rows = [[setting, name, *summary(pair)] for setting, pairs in found.items() for name, pair in pairs.items()]
    columns = ["networks", "pair", "additivity", "commutativity", "distance of weights", "distance of inputs"]
    report.table("Normalised distances, mean over the layers", columns, rows)
    additivity = [comparison(setting, pairs, "largest_additivity") for setting, pairs in found.items()]
    plots.draw_curves(additivity, report.picture("additivity", "As figures 5 and 6: additivity of ReLU."))
    for kind, figures in (("spawned", "7 and 16"), ("matching", "7, 17 and 18")):
        panels = [beside(s, name, pair) for s, pairs in found.items() for name, pair in pairs.items() if kind in name]
        caption = f"As figures {figures}: commutativity beside weights and inputs."
        plots.draw_curves(panels, report.picture(f"commutativity-{kind}", caption))
    apart = [comparison(setting, pairs, "commutativity") for setting, pairs in found.items()]
    plots.draw_curves(apart, report.picture("independent", "As figure 19: commutativity of independent networks too."))
    for setting, pairs in found.items():
        conclude(report, setting, pairs)


def summary(pair: FeaturePair) -> list[float]:
    """Mean over the layers behind the first, of additivity over all."""
    distances = ("commutativity", "weight_distance", "input_distance")
    means = [float(np.nanmean(per_layer(pair, distance)[1:])) for distance in distances]
    return [float(np.nanmean(per_layer(pair, "largest_additivity"))), *means]


def comparison(setting: str, pairs: dict[str, FeaturePair], quantity: str) -> plots.Panel:
    """One distance of all pairs, layer by layer."""
    curves = {name: hidden(per_layer(pair, quantity), quantity) for name, pair in pairs.items()}
    return panel(next(iter(pairs.values())), curves, setting, quantity.replace("largest_additivity", "additivity"))


def beside(setting: str, name: str, pair: FeaturePair) -> plots.Panel:
    """Commutativity of one pair, beside the distances of weights and inputs."""
    names = {"commutativity": "commutativity", "weight_distance": "weights", "input_distance": "inputs"}
    curves = {label: hidden(per_layer(pair, quantity), quantity) for quantity, label in names.items()}
    return panel(pair, curves, f"{setting}\n{name}", "normalised distance")


def hidden(values: list[float], quantity: str) -> list[float]:
    """Values without the first layer's, which are zero by definition; every layer counts for additivity."""
    return values if "additivity" in quantity else [float("nan"), *values[1:]]


def panel(pair: FeaturePair, curves: dict[str, list[float]], title: str, ylabel: str) -> plots.Panel:
    """Panel over the layers of a pair."""
    names = short_names(pair)
    return plots.Panel(x=range(len(names)), curves=curves, xlabel="", ylabel=ylabel, title=title, ticks=names, log="y")


def conclude(report: study.Report, setting: str, pairs: dict[str, FeaturePair]) -> None:
    """Say of each connected pair whether both conditions hold as published."""
    additivity, commutativity, *_ = summary(pairs["independent"])
    for name, pair in pairs.items():
        if name == "independent":
            continue
        add, commute, weights, inputs = summary(pair)
        holds = add <= PART * additivity
        report.say(
            f"{setting}, {name}: ReLU is {add:.4f} from additive, {add / additivity:.0%} of the {additivity:.4f} of "
            f"independent networks: {WORDS[holds]} (at most {PART:.0%})."
        )
        least = min(weights, inputs, commutativity)
        holds = commute <= PART * least
        report.say(
            f"{setting}, {name}: layers are {commute:.4f} from commuting, while weights differ by {weights:.3f} and "
            f"inputs by {inputs:.3f}, and the layers of independent networks are {commutativity:.3f} from it: "
            f"{commute / least:.0%} of the least of the three, {WORDS[holds]} (at most {PART:.0%})."
        )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
