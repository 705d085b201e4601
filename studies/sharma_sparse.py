"""Barriers between pruned networks, under the permutation of the dense ones and under others.

Sharma et al. 2024, figure 2 (left), figures 11 and 12, appendix F. Networks a and b are pruned level by level, each by
its own iterative magnitude pruning with weight rewinding. Published (VGG-16, CIFAR-10): the one permutation found from
the dense networks lines up the pruned ones at all levels, with lower barriers than permutations found from the pruned
networks themselves, whose weight matching fails at high sparsity.

Controls: no permutation; permutations of the pruned networks; networks that were pruned once instead of level by level;
b under the masks of a, carried by the permutation of the dense networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import fastmatch
from fastmatch import plots, training
from studies import pruned, study
from studies.population import State
from studies.pruned import Experiment, paired

SMALL = {**pruned.SMALL, "alphas": 11}
FULL = {**pruned.FULL, "alphas": 25, "data": "cifar10"}

NONE, DENSE_W, DENSE_A = "no permutation", "dense, weights", "dense, activations"
SPARSE_W, SPARSE_A = "pruned, weights", "pruned, activations"
ONE_SHOT, CARRIED = "one-shot masks, dense weights", "masks of a, dense weights"
ROWS = (NONE, DENSE_W, DENSE_A, SPARSE_W, SPARSE_A, ONE_SHOT, CARRIED)
QUANTITIES = (("test", "loss"), ("train", "loss"), ("test", "error"), ("train", "error"))


def heights(experiment: Experiment, a: int, b: int, alphas: int) -> dict[str, np.ndarray]:
    """Barriers by control, shape [levels with the dense one, quantities]."""
    of_a, of_b = experiment.levels(a), experiment.levels(b)
    dense_a, dense_b = (levels[0].network.state_dict for levels in (of_a, of_b))
    dense = {method: experiment.align(dense_a, dense_b, method) for method in ("weight", "activation")}
    found: dict[str, list[list[float]]] = {name: [] for name in ROWS}
    for one, other in zip(of_a, of_b, strict=True):
        first, second, masks = one.network.state_dict, other.network.state_dict, one.network.masks
        pairs: dict[str, tuple[State, State, fastmatch.Permutation | None]] = {
            NONE: (first, second, None),
            DENSE_W: (first, second, dense["weight"]),
            DENSE_A: (first, second, dense["activation"]),
            SPARSE_W: (first, second, experiment.align(first, second, "weight")),
            SPARSE_A: (first, second, experiment.align(first, second, "activation")),
        }
        if masks is not None:
            once = [
                experiment.retrained(seed, training.prune(state, experiment.pruning.density(one.number)))[0]
                for seed, state in ((a, dense_a), (b, dense_b))
            ]
            carried = experiment.retrained(b, training.transport(masks, dense["weight"].invert()))[0]
            pairs[ONE_SHOT] = (once[0], once[1], dense["weight"])
            pairs[CARRIED] = (first, carried, dense["weight"])
        measured = _barriers(experiment, pairs, alphas)
        for name in ROWS:
            found[name].append(measured.get(name, [np.nan] * len(QUANTITIES)))
    return {name: np.array(values) for name, values in found.items()}


def _barriers(
    experiment: Experiment, pairs: Mapping[str, tuple[State, State, fastmatch.Permutation | None]], alphas: int
) -> dict[str, list[float]]:
    """Barriers of all controls at one level, with one evaluator."""
    networks = [state for a, b, p in pairs.values() for state in (a, b if p is None else p.apply(b))]
    places = {name: (2 * number, 2 * number + 1) for number, name in enumerate(pairs)}
    found = fastmatch.barriers(
        experiment.task.module(), networks, experiment.task.dataset, pairs=list(places.values()), alphas=alphas
    )
    return {
        name: [found.heights[pair][split][quantity].linear for split, quantity in QUANTITIES]
        for name, pair in places.items()
    }


def _figure(values: np.ndarray, digits: int) -> str:
    return "" if np.isnan(values).any() else study.mean_std(values, digits)


def describe(report: study.Report, found: Mapping[str, np.ndarray], densities: list[float]) -> None:
    """Tables and findings; ``found`` by control has shape [replicates, levels, quantities]."""
    columns = ["permutation", *(f"{100 * density:.3g} % kept" for density in densities)]
    for place, title in ((0, "Test loss barrier (nats)"), (2, "Test error barrier (percentage points)")):
        scale, digits = (1, 3) if place == 0 else (100, 2)
        rows = [
            [name, *(_figure(scale * found[name][:, n, place], digits) for n in range(len(densities)))] for name in ROWS
        ]
        report.table(title, columns, rows)
    loss = {name: values[:, :, 0] for name, values in found.items()}
    report.say(
        f"From dense to {100 * densities[-1]:.2g} % of the weights, the test loss barrier goes from "
        f"{loss[NONE][:, 0].mean():.3f} to {loss[NONE][:, -1].mean():.3f} without a permutation and from "
        f"{loss[DENSE_W][:, 0].mean():.3f} to {loss[DENSE_W][:, -1].mean():.3f} under that of the dense networks. "
        "That one permutation lowers it at all levels, to less than half, "
        + ("came out." if (loss[DENSE_W].mean(0) < loss[NONE].mean(0) / 2).all() else "did not come out.")
    )
    for method, dense, sparse in (("weights", DENSE_W, SPARSE_W), ("activations", DENSE_A, SPARSE_A)):
        apart = [paired(loss[sparse][:, n], loss[dense][:, n]) for n in range(1, len(densities))]
        better = sum(mean > 2 * error for mean, error in apart)
        worse = sum(mean < -2 * error for mean, error in apart)
        verdict = "came out" if better > worse else "did not come out"
        report.say(
            f"Permutations of the pruned networks by {method} against that of the dense ones: higher barriers beyond "
            f"two standard errors at {better} levels, lower at {worse}, of {len(apart)}; at the last, "
            f"{loss[sparse][:, -1].mean():.3f} against {loss[dense][:, -1].mean():.3f} nats. That the dense networks "
            f"give the better permutation {verdict}."
        )


def main(report: study.Report, replicates: int, alphas: int, **sizes: Any) -> None:
    """Run the study."""
    experiment = Experiment.of(sizes.pop("data", None) or study.data_name(), **sizes)
    runs = [heights(experiment, 2 * number, 2 * number + 1, alphas) for number in range(replicates)]
    found = {name: np.array([run[name] for run in runs]) for name in ROWS}
    densities = [1.0, *experiment.densities()]
    report.keep("barriers", {"quantities": QUANTITIES, "densities": densities, **found})
    describe(report, found, densities)
    panels = [
        plots.Panel(
            x=range(len(densities)),
            curves={name: np.maximum(scale * found[name][:, :, place].mean(0), least) for name in ROWS},
            xlabel=f"level (each keeps {100 * (1 - sizes['fraction']):g} %)",
            ylabel=f"{quantity} barrier ({unit}, at least {least:g})",
            title=f"{split} {quantity}",
            log="y",
        )
        for place, (split, quantity) in enumerate(QUANTITIES)
        for scale, least, unit in [(1, 1e-3, "nats") if quantity == "loss" else (100, 0.1, "%")]
        if split == "test" or quantity == "loss"
    ]
    plots.draw_curves(panels, report.picture("barriers", "Barriers against density, by permutation"))


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
