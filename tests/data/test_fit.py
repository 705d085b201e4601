from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fastmatch.data import check_fit, load_data
from fastmatch.errors import DataError


class Pair(nn.Module):
    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, inputs


def test_a_network_that_fits_passes() -> None:
    check_fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 12)), load_data("digits"))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
            r"digits has examples of shape \(1, 8, 8\), which the network",
        ),
        (nn.Conv2d(3, 4, 3), "which the network does not take"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 9)), "digits has 10 classes but the network only 9 outputs"),
        (nn.Linear(8, 10), "does not return one row of logits"),
        (nn.Flatten(0), "does not return one row of logits"),
        (Pair(), "does not return one row of logits"),
    ],
)
def test_a_network_that_does_not_fit_is_a_one_line_error(network: nn.Module, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        check_fit(network, load_data("digits"))
    assert "\n" not in str(caught.value)


def test_checking_runs_without_gradients() -> None:
    network = nn.Linear(2, 2)
    seen: list[bool] = []
    network.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    check_fit(network, load_data("moons"))
    assert seen == [False]
