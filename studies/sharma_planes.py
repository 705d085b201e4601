"""Planes through two training runs: the loss between them under permutations found early and late.

Sharma et al. 2024, appendix I, figures 22 and 23. Every plane goes through three networks; the runs of a and of the
permuted b are projected on it. In the paper (VGG-16 on CIFAR-10) the runs are at first separated by a high barrier
under a permutation of weight matching early in training, though both still end in one basin, and connected from early
on under a later one. Figure 22 here: a at its start, a at its end, b at its end under the permutation. Figure 23 here:
the end of b as it is, under the permutation, and the end of a.
"""

from __future__ import annotations

from collections.abc import Sequence

import fastmatch
from fastmatch import Permutation, analysis
from fastmatch.plots import Landscape, draw_planes
from studies import study
from studies.sharma_trajectory import mlp_task

SMALL = {"limit": 10_000, "epochs": 10, "times": (20, 160), "examples": 1000, "grid": 15, "alphas": 7}
FULL = {"limit": None, "epochs": 60, "times": (20, 160, 400), "examples": 10_000, "grid": 41, "alphas": 25}

PATHS = ("run a", "run b, permuted")


def main(
    report: study.Report, limit: int | None, epochs: int, times: Sequence[int], examples: int, grid: int, alphas: int
) -> None:
    """Match at some steps, draw the planes, and measure the barriers that they show."""
    task = mlp_task(limit, epochs)
    a, b = task.run(0), task.run(1)
    start, end = min(a), max(a)
    spec, module, data = task.spec(), task.module(), task.dataset.take(examples)
    permutations: dict[str, Permutation] = {}
    around_start: dict[str, analysis.Plane] = {}
    around_ends: dict[str, analysis.Plane] = {}
    for time in (*(time for time in times if time in a), end):
        name = f"permutation of step {time}"
        permutation = fastmatch.match_weights(spec, a[time], b[time]).permutation
        permuted = {step: permutation.apply(state) for step, state in b.items()}
        paths = dict(zip(PATHS, (list(a.values()), list(permuted.values())), strict=True))
        first = [a[start], a[end], permuted[end]]
        second = [b[end], permuted[end], a[end]]
        around_start[name] = analysis.plane(module, first, data, paths=paths, grid=grid)
        around_ends[name] = analysis.plane(module, second, data, paths=paths, grid=grid)
        permutations[name] = permutation
    _draw(report, "runs", around_start, ("a, start", "a, end", "b, end"), "Planes through the runs (figure 22).")
    _draw(report, "ends", around_ends, ("b, end", "b permuted", "a, end"), "Planes through the ends (figure 23).")
    _report(report, analysis.simultaneous_barriers(module, a, b, data, permutations, alphas=alphas), around_start)


def _draw(
    report: study.Report, part: str, planes: dict[str, analysis.Plane], names: Sequence[str], caption: str
) -> None:
    shown = {
        name: Landscape(
            x=plane.x,
            y=plane.y,
            values=plane.surface("train", "loss"),
            corners=plane.corners,
            paths={path: projection.points for path, projection in plane.paths.items()},
        )
        for name, plane in planes.items()
    }
    draw_planes(shown, report.picture(part, caption), unit="training loss (nats)", names=names)


def _report(report: study.Report, found: analysis.Trajectory, planes: dict[str, analysis.Plane]) -> None:
    loss = found.matrix(split="train")
    rows = []
    for row, name in enumerate(found.rows):
        top = int(loss[row].argmax())
        off = [max(planes[name].paths[path].distances) for path in PATHS] if name in planes else ["", ""]
        rows.append([name, loss[row].max(), found.steps[top], loss[row, -1], *off])
    columns = ["permutation", "largest training loss barrier", "at step", "at the end"]
    columns += [f"{path}: farthest from the plane" for path in PATHS]
    title = "Barriers between the runs at the same step, and how far the runs leave the planes of figure 22"
    report.table(title, columns, rows)
    early, late, third = loss[1], loss[-1], loss[0] / 3
    apart = "came out" if (early > third).any() and early[-1] < third[-1] else "did NOT come out"
    joined = "came out" if (late < third.max()).all() else "did NOT come out"
    report.say(
        "Two networks count as connected where the barrier is less than a third of the unaligned one. Under the "
        f"{found.rows[1]} the runs are separated by up to {early.max():.3f} nats on the way and by {early[-1]:.3f} at "
        f"the end (unaligned {loss[0, -1]:.3f}): that runs apart at first end in one basin {apart}. Under that of the "
        f"last step the largest barrier is {late.max():.3f}, unaligned {loss[0].max():.3f}: that a later permutation "
        f"connects the runs from early on {joined}."
    )


if __name__ == "__main__":
    study.run(main, file=__file__, doc=__doc__, small=SMALL, full=FULL)
