"""What the permutation methods do about commutativity, and when they can: low rank of weights and activations.

Zhou et al. 2023, section 5.2 and appendix B.5. Layers commute where (W_a - W_b)(H_a - H_b) vanishes (equation 9):
weight matching makes the first factor small, activation matching the second. Figures 20 and 21 (singular values of
weights and activations) and 22 (stable ranks of weights early in training and at its end). The text gives no figures
but words: weights and activations are approximately of low rank; wide networks have a smaller proportion of salient
singular values than narrow ones, and networks at the end of training a smaller stable rank than early ones; there
matching works.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastmatch import plots
from fastmatch.analysis import FeaturePair, Spectrum, weight_spectrum
from fastmatch.training import Recipe
from studies import study
from studies.population import State, Task
from studies.zhou_mechanism import summary
from studies.zhou_pairs import INPUTS, Setting

SMALL = {"widths": (32, 128, 512), "epochs": (0, 1, 6), "examples": 5_000}
FULL = {"widths": (32, 128, 512, 2048), "epochs": (0, 1, 5, 60), "examples": 60_000}

LOW = 0.125  # Of the width: below this a stable rank counts as low; that of a random square matrix is about 0.25.
METHODS = ("none", "weight", "activation")
WORDS = {True: "as published", False: "NOT as published"}


def main(report: study.Report, widths: tuple[int, ...], epochs: tuple[int, ...], examples: int) -> None:
    """Networks of several widths, matched after several epochs."""
    rows, ranks, pairs, largest = [], {}, {}, max(epochs)
    for width in widths:
        for epoch, a, b in zip(epochs, *trajectories(width, epochs, examples), strict=True):
            ranks[width, epoch] = relative_ranks(a)
            for method in METHODS:
                setting, matched = matched_pair(width, examples, method, a, b)
                pairs[width, epoch, method] = pair = setting.compare(a, matched, alphas=3).pairs["unaligned"]
                figures = [*summary(pair)[1:], setting.barrier(a, matched)]
                rows.append([width, epoch, float(np.mean(ranks[width, epoch])), method, *figures])
    columns = ["width", "epoch", "stable rank / width", "matching", "commutativity", "distance of weights",
               "distance of inputs", "error barrier (%)"]  # fmt: skip
    report.table("MLPs before and after matching, means over the layers behind the first", columns, rows)
    draw(report, pairs, ranks, widths, epochs)
    conclude_objectives(report, {row[3]: row for row in rows if row[:2] == [max(widths), largest]})
    conclude_ranks(report, pairs, ranks, widths, epochs)
    conclude_barriers(report, [row for row in rows if row[1] == largest and row[3] == "weight"])


def trajectories(width: int, epochs: tuple[int, ...], examples: int) -> list[list[State]]:
    """Two independent networks after each of the epochs."""
    recipe = Recipe(epochs=max(epochs), save_epochs=tuple(epoch for epoch in epochs if epoch < max(epochs)))
    task = replace(task_of(width, examples), recipe=recipe)
    return [task.trajectory(seed) for seed in (0, 1)]


def task_of(width: int, examples: int) -> Task:
    """MLP with three hidden layers."""
    return Task(f"mlp({INPUTS}, {width}, {width}, {width}, 10)", study.data_name(), limit=examples)


def matched_pair(width: int, examples: int, method: str, a: State, b: State) -> tuple[Setting, State]:
    """What compares networks of a width, and b after matching."""
    setting = Setting("MLP", task_of(width, examples), None)
    return setting, b if method == "none" else setting.matched(method, a, b)


def relative_ranks(state: State) -> list[float]:
    """Stable rank of the hidden layers' square weights, as a part of their size."""
    hidden = [state[f"linear{number}.weight"] for number in (2, 3)]
    return [weight_spectrum(weight).stable_rank / len(weight) for weight in hidden]


def draw(
    report: study.Report,
    pairs: dict[tuple[int, int, str], FeaturePair],
    ranks: dict[tuple[int, int], list[float]],
    widths: tuple[int, ...],
    epochs: tuple[int, ...],
) -> None:
    """Singular values of weights and activations at the end of training, and stable ranks during it."""
    layers = {width: pairs[width, max(epochs), "none"].layers[1] for width in widths}
    places = np.linspace(0, 1, 50)
    panels = [
        plots.Panel(
            x=places,
            curves={f"width {width}": spectrum(getattr(layer, kind)[0], places) for width, layer in layers.items()},
            xlabel="rank / width",
            ylabel="singular value / largest",
            title=f"{kind} of {layers[widths[0]].name}",
            log="y",
        )
        for kind in ("weights", "activations")
    ]
    curves = {f"width {width}": [float(np.mean(ranks[width, epoch])) for epoch in epochs] for width in widths}
    panels.append(plots.Panel(x=epochs, curves=curves, xlabel="epoch", ylabel="stable rank / width", title="weights"))
    plots.draw_curves(
        panels, report.picture("ranks", "As figures 20 to 22: singular values, and stable ranks in time.")
    )


def spectrum(found: Spectrum, places: np.ndarray) -> np.ndarray:
    """Singular values, as parts of the largest, at places from 0 (the largest) to 1 (the smallest)."""
    values = np.interp(places, np.linspace(0, 1, len(found.values)), found.values / found.values[0])
    return np.where(values > 1e-4, values, np.nan)


def conclude_objectives(report: study.Report, rows: dict[str, list[float]]) -> None:
    """Say whether each method lowers its own factor most, and both the commutativity."""
    commute, weights, inputs = ({name: row[place] for name, row in rows.items()} for place in (4, 5, 6))
    for name, own in (("weight", weights), ("activation", inputs)):
        holds = commute[name] < commute["none"] and own[name] < own["none"]
        report.say(
            f"{name.capitalize()} matching takes the distance of its own factor from {own['none']:.3f} to "
            f"{own[name]:.3f} and commutativity from {commute['none']:.3f} to {commute[name]:.3f}. Both lower: "
            f"{WORDS[holds]}."
        )


def conclude_ranks(
    report: study.Report,
    pairs: dict[tuple[int, int, str], FeaturePair],
    ranks: dict[tuple[int, int], list[float]],
    widths: tuple[int, ...],
    epochs: tuple[int, ...],
) -> None:
    """Say what became of the claims about ranks."""
    (narrow, *_, wide), (early, *_, late) = sorted(widths), sorted(epochs)
    mean = {key: float(np.mean(values)) for key, values in ranks.items()}
    inner = pairs[wide, late, "none"].layers[1:-1]
    active = float(np.mean([layer.activations[0].stable_rank for layer in inner])) / wide
    report.say(
        f"Stable ranks as parts of the width, after {late} epochs at width {wide}: weights {mean[wide, late]:.3f}, "
        f"activations {active:.4f}. Both of low rank, below {LOW} where random "
        f"square weights have 0.25: {WORDS[max(mean[wide, late], active) < LOW]}."
    )
    smaller = mean[wide, late] < mean[narrow, late], mean[wide, late] < mean[wide, early]
    report.say(
        f"That of the weights is {mean[narrow, late]:.3f} at width {narrow}; smaller in wide networks: "
        f"{WORDS[smaller[0]]}. It is {mean[wide, early]:.3f} after {early} epochs; smaller after training: "
        f"{WORDS[smaller[1]]}."
    )


def conclude_barriers(report: study.Report, rows: list[list[float]]) -> None:
    """Say whether weight matching works better in wide networks."""
    narrow, wide = rows[0], rows[-1]
    holds = wide[4] < narrow[4] and wide[7] < narrow[7]
    report.say(
        f"After weight matching commutativity is {narrow[4]:.3f} at width {narrow[0]} and {wide[4]:.3f} at width "
        f"{wide[0]}, and the error barrier {narrow[7]:.1f} % and {wide[7]:.1f} %. Both smaller in wide "
        f"networks: {WORDS[holds]}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
