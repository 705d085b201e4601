from __future__ import annotations

from typing import Any

import pytest

from fastmatch.errors import OptionError
from fastmatch.training import Recipe


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; choose one of sgd, adam"),
        ({"schedule": "linear"}, "unknown schedule 'linear'"),
        ({"init": "xavier"}, "unknown init 'xavier'"),
        ({"lr": 0.0}, "learning rate 0.0"),
        ({"lr": float("nan")}, "learning rate nan"),
        ({"lr": float("inf")}, "learning rate inf"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"weight_decay": -1.0}, "weight decay -1.0"),
        ({"epochs": 0}, "number of epochs 0"),
        ({"warmup": 11.0}, "warm-up 11.0 is out of range; it must be between 0 and the 10 epochs"),
        ({"batch_size": 1}, "batch size 1"),
        ({"save_epochs": (11,)}, "epoch to save 11"),
        ({"save_steps": (-1,)}, "step to save -1"),
    ],
)
def test_choices_outside_their_range_are_refused(choice: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        Recipe(**choice)
    assert "\n" not in str(caught.value)
