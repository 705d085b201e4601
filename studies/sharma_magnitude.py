"""Weight matching after pruning: it needs the large weights, and not the small ones.

Sharma et al. 2024, figure 5 (left), figure 16 and appendix H.2. From two networks after the same epoch, a fraction of
the weights is pruned (globally), the smallest ones or random ones; the pruned networks are aligned by weight matching,
and the barrier is that of the whole networks under the permutation found. Published (VGG-16, ResNet-20 on CIFAR-10):
pruning the smallest weights does not raise barriers up to high fractions, pruning random ones does; more can be pruned
from networks that were trained for longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import fastmatch
from fastmatch import plots, training
from studies import study
from studies.population import Task
from studies.pruned import model_for, paired

_SHARED = {
    "fractions": [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99],
    "recipe": {"optimizer": "sgd", "lr": 0.1, "weight_decay": 1e-4, "warmup": 1.0},
}
SMALL = {
    **_SHARED,
    "model": "mlp(784, 128, 128, 10)",
    "epochs": (1, 2, 5),
    "replicates": 3,
    "alphas": 11,
    "limit": 4000,
}
FULL = {
    **_SHARED,
    "model": "vgg16(width=64, norm=layer)",
    "data": "cifar10",
    "epochs": (10, 40, 80, 160),
    "replicates": 5,
    "alphas": 25,
    "limit": None,
}

CRITERIA = {"magnitude": "smallest", "random": "random"}
QUANTITIES = (("test", "loss"), ("test", "error"))
TOLERANCE = 0.1  # of the barrier without a permutation: what a barrier may rise and still count as not raised


def heights(task: Task, a: int, b: int, fractions: list[float], alphas: int) -> np.ndarray:
    """Barriers [epochs, unaligned and criteria, fractions, quantities] of two networks."""
    spec, found = task.spec(), []
    for one, other in zip(task.trajectory(a), task.trajectory(b), strict=True):
        networks = [one, other]  # then the second under every permutation found
        for criterion in CRITERIA:
            for fraction in fractions:
                pruned = [
                    training.apply_masks(training.prune(state, 1 - fraction, criterion=criterion, seed=seed), state)
                    for seed, state in ((a, one), (b, other))
                ]
                networks.append(fastmatch.match_weights(spec, *pruned).permutation.apply(other))
        pairs = [(0, number) for number in range(1, len(networks))]
        measured = fastmatch.barriers(task.module(), networks, task.dataset, pairs=pairs, alphas=alphas).heights
        figures = [[measured[pair][split][quantity].linear for split, quantity in QUANTITIES] for pair in pairs]
        aligned = [figures[1 : 1 + len(fractions)], figures[1 + len(fractions) :]]
        found.append([[figures[0]] * len(fractions), *aligned])
    return np.array(found)


def harmless(values: np.ndarray, unaligned: float, fractions: list[float]) -> float:
    """Largest fraction up to which the mean barrier stays within the tolerance of that without pruning."""
    raised = np.flatnonzero(values.mean(0) > values[:, 0].mean() + TOLERANCE * unaligned)
    return fractions[raised[0] - 1] if len(raised) else fractions[-1]


def main(
    report: study.Report, epochs: tuple[int, ...], fractions: list[float], replicates: int, alphas: int, **sizes: Any
) -> None:
    """Run the study."""
    recipe = training.Recipe(**sizes.pop("recipe"), save_epochs=epochs[:-1], epochs=epochs[-1])
    data = sizes.pop("data", None) or study.data_name()
    task = Task(model=model_for(data, sizes.pop("model")), data=data, recipe=recipe, **sizes)
    found = np.array([heights(task, 2 * n, 2 * n + 1, fractions, alphas) for n in range(replicates)])
    report.keep("barriers [replicates, epochs, unaligned and criteria, fractions, loss and error]", found)
    columns = ["epoch", "weights pruned", "no permutation", *(f"{100 * fraction:g} %" for fraction in fractions)]
    rows = [
        [epoch, name, f"{found[:, e, 0, 0, 0].mean():.3f}"]
        + [study.mean_std(found[:, e, c, f, 0], 3) for f in range(len(fractions))]
        for e, epoch in enumerate(epochs)
        for c, name in enumerate(CRITERIA.values(), start=1)
    ]
    report.table("Test loss barrier of the whole networks (nats), by fraction pruned before matching", columns, rows)
    ends = {}
    for e, epoch in enumerate(epochs):
        unaligned = float(found[:, e, 0, 0, 0].mean())
        small, random = (harmless(found[:, e, c, :, 0], unaligned, fractions) for c in (1, 2))
        ends[epoch] = small
        apart = [paired(found[:, e, 2, f, 0], found[:, e, 1, f, 0]) for f in range(1, len(fractions))]
        higher = sum(mean > 2 * error for mean, error in apart)
        outcome = "came out" if small > random and 2 * higher > len(apart) else "did not come out"
        report.say(
            f"Epoch {epoch}: the barrier rises by less than {100 * TOLERANCE:g} % of that without a permutation "
            f"({unaligned:.3f}) up to {100 * small:g} % of the smallest weights and {100 * random:g} % of random ones; "
            f"random pruning is worse beyond two standard errors at {higher} of {len(apart)} fractions. That matching "
            f"needs the large weights {outcome}."
        )
    shown = ", ".join(f"{100 * fraction:g} % after epoch {epoch}" for epoch, fraction in ends.items())
    grows = ends[epochs[-1]] > ends[epochs[0]]
    report.say(
        f"Harmless fractions of the smallest weights: {shown}. That more can be pruned later in training "
        f"{'came out' if grows else 'did not come out'}."
    )
    panels = [
        plots.Panel(
            x=[100 * fraction for fraction in fractions],
            curves={
                f"epoch {epoch}, {name}": scale * found[:, e, c, :, q].mean(0)
                for c, name in enumerate(CRITERIA.values(), start=1)
                for e, epoch in enumerate(epochs)
            },
            xlabel="weights pruned before matching (%)",
            ylabel=f"{split} {quantity} barrier ({'nats' if quantity == 'loss' else 'percentage points'})",
        )
        for q, (split, quantity) in enumerate(QUANTITIES)
        for scale in [1 if quantity == "loss" else 100]
    ]
    plots.draw_curves(panels, report.picture("barriers", "Barriers against the fraction pruned before matching"))


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
