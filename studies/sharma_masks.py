"""Masks of one network, carried to another by a permutation, against masks of its own.

Sharma et al. 2024, figure 2 (right) and figure 13. Networks a and b differ in initial weights and order of the data.
The masks of a, found by iterative magnitude pruning, are carried to b by the inverse of the permutation that lines b up
with a; b is rewound, pruned and trained again. Published: they give b the accuracy of its dense network at higher
sparsity than one-shot pruning of b does; without a permutation they fail at all sparsities; permutations by weights do
better than those by activations; rewinding the learning rate alone does worse than rewinding the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmatch import plots, training
from studies import pruned, study
from studies.pruned import Experiment, paired

SMALL = pruned.SMALL
FULL = {**pruned.FULL, "data": "cifar10"}

OWN, WEIGHTS, ACTIVATIONS, SPARSE = "own IMP", "carried, weights", "carried, activations", "carried, sparse weights"
ONE_SHOT, AS_IT_IS, RANDOM = "one-shot", "not permuted", "random"
TOLERANCE = 0.005  # below the dense accuracy that still counts as matching it
MODES = {"weights": "weight rewinding", "lr": "learning-rate rewinding"}


def accuracies(experiment: Experiment, a: int, b: int) -> dict[str, list[float]]:
    """Test accuracy of b, by source of its masks, at every level; ``"dense"`` at none."""
    of_a, of_b = experiment.levels(a), experiment.levels(b)
    dense_a, dense_b = (levels[0].network.state_dict for levels in (of_a, of_b))
    dense = {method: experiment.align(dense_a, dense_b, method) for method in ("weight", "activation")}
    found: dict[str, list[float]] = {"dense": [of_b[0].test_accuracy]}
    for one, other in zip(of_a[1:], of_b[1:], strict=True):
        keep, mask = experiment.pruning.density(one.number), one.network.masks
        assert mask is not None
        sparse = experiment.align(one.network.state_dict, other.network.state_dict, "weight")
        masks = {
            WEIGHTS: training.transport(mask, dense["weight"].invert()),
            ACTIVATIONS: training.transport(mask, dense["activation"].invert()),
            SPARSE: training.transport(mask, sparse.invert()),
            ONE_SHOT: training.prune(dense_b, keep),
            AS_IT_IS: mask,
            RANDOM: training.prune(dense_b, keep, criterion="random", seed=b),
        }
        found.setdefault(OWN, []).append(other.test_accuracy)
        for name, chosen in masks.items():
            found.setdefault(name, []).append(experiment.retrained(b, chosen)[1])
    return found


def matching_level(values: np.ndarray, dense: float) -> int:
    """Last level up to which the mean accuracy stays within the tolerance of the dense network; 0 if none does."""
    below = np.flatnonzero(values.mean(0) < dense - TOLERANCE)
    return int(below[0]) if len(below) else values.shape[1]


def describe(report: study.Report, mode: str, experiment: Experiment, found: Mapping[str, np.ndarray]) -> None:
    """Table and findings of one way of rewinding."""
    densities, dense = experiment.densities(), float(found["dense"].mean())
    columns = ["masks", *(f"{100 * density:.2g} % kept" for density in densities), "matches dense down to"]
    rows = []
    for name in (OWN, WEIGHTS, ACTIVATIONS, SPARSE, ONE_SHOT, AS_IT_IS, RANDOM):
        last = matching_level(found[name], dense)
        until = f"{100 * densities[last - 1]:.2g} %" if last else "none"
        rows.append([name, *(study.mean_std(100 * found[name][:, n], 2) for n in range(len(densities))), until])
    report.table(f"Test accuracy of b (%), {MODES[mode]}; dense {100 * dense:.2f}", columns, rows)
    better, worse = [], []
    for n, density in enumerate(densities):
        mean, error = paired(found[WEIGHTS][:, n], found[ONE_SHOT][:, n])
        text = f"{100 * density:.2g} % ({100 * mean:+.2f} ± {100 * error:.2f})"
        (better if mean > 2 * error else worse if mean < -2 * error else []).append(text)
    report.say(
        f"{MODES[mode].capitalize()}, carried masks minus one-shot masks, percentage points with standard errors: "
        f"beyond two of them better at {', '.join(better) or 'no level'}; worse at {', '.join(worse) or 'no level'}."
    )
    ends = {name: matching_level(found[name], dense) for name in (WEIGHTS, ACTIVATIONS, ONE_SHOT, AS_IT_IS)}
    shown = ", ".join(f"{name} {last}" for name, last in ends.items())
    outcome = "came out" if ends[WEIGHTS] > ends[ONE_SHOT] else "did not come out"
    report.say(
        f"Last levels that match the dense accuracy within {100 * TOLERANCE:g} points: {shown}. That carried masks "
        f"match to a higher sparsity than one-shot masks {outcome}; at the last level they are "
        f"{100 * (found[WEIGHTS][:, -1] - found[ONE_SHOT][:, -1]).mean():+.2f} points apart."
    )
    gain = [paired(found[WEIGHTS][:, n], found[AS_IT_IS][:, n])[0] for n in (-2, -1)]
    by_method = float((found[WEIGHTS] - found[ACTIVATIONS]).mean())
    report.say(
        f"Permuting the masks gains {100 * gain[0]:.2f} and {100 * gain[1]:.2f} points at the last two levels; "
        f"weights minus activations, over all levels: {100 * by_method:+.2f} points."
    )


def main(report: study.Report, replicates: int, **sizes: Any) -> None:
    """Run the study."""
    data = sizes.pop("data", None) or study.data_name()
    panels, ends = [], {}
    for mode, title in MODES.items():
        experiment = Experiment.of(data, **sizes, rewinding=mode)
        runs = [accuracies(experiment, 2 * number, 2 * number + 1) for number in range(replicates)]
        found = {name: np.array([run[name] for run in runs]) for name in runs[0]}
        report.keep(f"accuracies, {mode}", found)
        describe(report, mode, experiment, found)
        ends[mode] = matching_level(found[WEIGHTS], float(found["dense"].mean()))
        shown = {name: values for name, values in found.items() if name not in ("dense", RANDOM)}
        panels.append(
            plots.Panel(
                x=range(1, experiment.pruning.levels + 1),
                curves={
                    "dense": np.full(len(experiment.densities()), 100 * found["dense"].mean()),
                    **{name: 100 * values.mean(0) for name, values in shown.items()},
                },
                spreads={name: 100 * values.std(0, ddof=min(1, replicates - 1)) for name, values in shown.items()},
                xlabel=f"level (each keeps {100 * (1 - sizes['fraction']):g} %)",
                ylabel="test accuracy (%)",
                title=title,
            )
        )
    verdict = "came out" if ends["lr"] < ends["weights"] else "did not come out"
    report.say(
        f"That masks match only to a lower sparsity with learning-rate rewinding {verdict}: last levels that do are "
        f"{ends['weights']} with weight and {ends['lr']} with learning-rate rewinding."
    )
    plots.draw_curves(panels, report.picture("accuracy", "Test accuracy against density, by source of the masks"))


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
