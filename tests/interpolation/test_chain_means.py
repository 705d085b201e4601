"""Means over sorted examples against cross entropy and argmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from fastmatch.interpolation.chain_means import Means


@pytest.mark.parametrize("classes", [[0, 1, 2, 3], [1, 3], [2]], ids=str)
@pytest.mark.parametrize("special", [None, torch.inf, -torch.inf, torch.nan], ids=str)
def test_means_are_those_of_each_example(classes, special):
    generator = torch.Generator().manual_seed(len(classes))
    labels = torch.tensor(classes)[torch.randint(len(classes), (60,), generator=generator)].sort().values
    logits = torch.randint(-2, 3, (3, 2, 4, 60), generator=generator).double()  # many are equal
    if special is not None:
        logits[torch.rand(logits.shape, generator=generator) < 0.1] = special
    examples = logits.movedim(-2, -1)
    wrong = (examples.argmax(-1) != labels) | examples.isnan().any(-1)
    given = logits.clone()
    errors = Means(labels, 4, logits.dtype, "error")(logits)
    np.testing.assert_array_equal(errors, wrong.double().mean(-1).numpy())
    losses = functional.cross_entropy(examples.flatten(0, 2), labels.repeat(6), reduction="none").view(3, 2, 60)
    np.testing.assert_allclose(Means(labels, 4, logits.dtype, "loss")(logits), losses.mean(-1), rtol=1e-12)
    torch.testing.assert_close(logits, given, rtol=0, atol=0, equal_nan=True)


def test_errors_need_no_equal_logits():
    logits = torch.randn(5, 4, 200, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(200) // 50
    errors = Means(labels, 4, logits.dtype, "error")(logits)
    np.testing.assert_array_equal(errors, (logits.argmax(-2) != labels).double().mean(-1).numpy())
