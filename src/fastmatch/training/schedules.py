"""Learning rates as a closed function of the step."""

from __future__ import annotations

import math

from fastmatch.training.recipe import Recipe

_RISE, _START, _END = 0.3, 25.0, 1e4


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """Learning rate of step ``step``, counted from 0.

    ``constant`` and ``cosine`` start with a linear warm-up; ``cosine`` then falls to 0 at the end of training
    (Loshchilov and Hutter 2017, eq. 5, without restarts). ``onecycle`` is torch's ``OneCycleLR`` with its default
    figures: from lr / 25 up to lr over 30 % of the steps, or over the warm-up where there is one, then down to
    lr / 250000, both along half a cosine; trainings too short for a rise start at lr.
    """
    total = recipe.epochs * steps_per_epoch
    warmup = round(recipe.warmup * steps_per_epoch)
    if recipe.schedule == "onecycle":
        return _one_cycle(recipe.lr, step, total, peak=max((warmup or _RISE * total) - 1, 0.0))
    if step < warmup:
        return recipe.lr * (step + 1) / warmup
    if recipe.schedule == "cosine":
        return _half_cosine(recipe.lr, 0.0, (step - warmup) / (total - warmup))
    return recipe.lr


def _one_cycle(lr: float, step: int, total: int, peak: float) -> float:
    low = lr / _START
    if step <= peak:
        return _half_cosine(low, lr, step / peak if peak else 1.0)
    return _half_cosine(lr, low / _END, (step - peak) / (total - 1 - peak))


def _half_cosine(start: float, end: float, fraction: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * fraction)) / 2
