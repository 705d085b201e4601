from __future__ import annotations

import pytest
import torch

from fastmatch.training import SCHEDULES, Recipe
from fastmatch.training.schedules import learning_rate


def rates(steps_per_epoch: int = 10, **choices: object) -> list[float]:
    recipe = Recipe(lr=0.5, epochs=4, **choices)  # type: ignore[arg-type]
    return [learning_rate(recipe, step, steps_per_epoch) for step in range(4 * steps_per_epoch)]


def torch_rates(scheduler: type, **options: object) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = scheduler(optimizer, **options)
    result = []
    for _ in range(40):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


def test_constant_is_constant() -> None:
    assert rates(schedule="constant") == [0.5] * 40


def test_cosine_is_that_of_torch() -> None:
    expected = torch_rates(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=40)
    assert rates(schedule="cosine") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("warmup", "rise"), [(0.0, 0.3), (1.0, 0.25), (2.0, 0.5)])
def test_onecycle_is_that_of_torch(warmup: float, rise: float) -> None:
    options = {"max_lr": 0.5, "total_steps": 40, "pct_start": rise, "cycle_momentum": False}
    expected = torch_rates(torch.optim.lr_scheduler.OneCycleLR, **options)
    assert rates(schedule="onecycle", warmup=warmup) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_warmup_is_linear_and_counts_epochs(schedule: str) -> None:
    result = rates(schedule=schedule, warmup=0.5)
    assert result[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert result[5] == 0.5


def test_cosine_falls_to_zero_after_the_warmup() -> None:
    result = rates(schedule="cosine", warmup=2.0)
    assert result[30] == pytest.approx(0.25)
    assert 0 < result[-1] < 0.005


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
@pytest.mark.parametrize("warmup", [0.0, 1.0])
def test_the_shortest_trainings_have_rates_in_range(schedule: str, epochs: int, warmup: float) -> None:
    recipe = Recipe(lr=0.5, epochs=epochs, schedule=schedule, warmup=warmup)
    result = [learning_rate(recipe, step, 1) for step in range(epochs)]
    assert all(0 < rate <= 0.5 for rate in result)
    assert max(result) > 0.25
