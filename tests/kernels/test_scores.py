from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastmatch.kernels import scores


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_losses_are_torchs_cross_entropy_in_float64(dtype, scale):
    logits, labels = (scale * torch.randn(50, 7)).to(dtype), torch.randint(0, 7, (50,))
    losses, errors = scores(logits, labels)
    torch.testing.assert_close(
        losses, F.cross_entropy(logits.double(), labels, reduction="none"), rtol=1e-12, atol=1e-13
    )
    assert torch.equal(errors, logits.argmax(1) != labels)
    assert losses.dtype == torch.float64
    assert errors.dtype == torch.bool


def test_a_confident_network_keeps_the_digits_of_its_loss():
    losses, _ = scores(torch.tensor([[20.0, 0.0]]), torch.tensor([0]))
    assert losses.item() == pytest.approx(2.061153622438558e-09, rel=1e-6)  # log(1 + e^-20); float32 gives 0


def test_logits_beyond_the_range_of_exp_give_finite_losses():
    losses, errors = scores(torch.tensor([[3e4, -3e4], [3e4, -3e4]]), torch.tensor([0, 1]))
    assert losses.tolist() == [0.0, 6e4]
    assert errors.tolist() == [False, True]


def test_ties_go_to_the_smaller_class():
    logits = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 5.0, 5.0]])
    _, errors = scores(logits, torch.tensor([0, 1, 0, 2]))
    assert errors.tolist() == [False, True, False, True]


def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes():
    losses, _ = scores(torch.zeros(3, 10), torch.tensor([0, 5, 9]))
    torch.testing.assert_close(losses, torch.full((3,), 10.0, dtype=torch.float64).log())
