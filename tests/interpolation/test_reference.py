"""The evaluator agrees with the plain loop in float64."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fastmatch import Split, evaluate, training
from fastmatch.interpolation.reference import evaluate_plainly
from fastmatch.interpolation.strategies import has_bfloat16
from tests.problems import build

MODELS = [
    *(f"mlp(64, 32, 32, 10, norm={norm})" for norm in ("none", "layer", "batch")),
    *(f"vgg11(width=4, norm={norm}, in_channels=1, size=8)" for norm in ("none", "layer", "batch")),
    *(f"resnet20(width=1, norm={norm}, in_channels=1, size=8)" for norm in ("none", "layer", "batch")),
]
ROWS = np.array([[1, 0, 0], [0.75, 0.25, 0], [0.5, 0.5, 0], [0, 1, 0], [1 / 3, 1 / 3, 1 / 3], [1.25, -0.25, 0]])


class Transformer(nn.Module):
    """Rows of an image as tokens."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.place = nn.Parameter(torch.randn(8, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 10)

    def forward(self, images):
        return self.head(self.encoder(self.embed(images.reshape(-1, 8, 8)) + self.place).mean(1))


@functools.cache
def trained(model, digits):
    """Three networks, trained for a moment: logits with margins as real ones have."""
    states = []
    for seed in range(3):
        torch.manual_seed(seed)
        module = Transformer() if model == "transformer" else build(model, seed)
        training.train(module, digits, training.Recipe(epochs=2, order_seed=seed))
        states.append(module.state_dict())
    return module, states


@functools.cache
def expected(model, digits):
    module, states = trained(model, digits)
    statistics = digits.train.take(100) if "norm=batch" in model else None
    return evaluate_plainly(module, states, ROWS, digits.test, statistics=statistics)


@pytest.mark.parametrize(
    ("strategy", "precision"), [("functional", "highest"), ("lowered", "highest"), ("lowered", "fast")]
)
@pytest.mark.parametrize("model", [*MODELS, "transformer"])
def test_errors_agree_exactly_and_losses_closely(model, strategy, precision, digits):
    losses, errors = expected(model, digits)
    module, states = trained(model, digits)
    found = evaluate(
        module,
        states,
        ROWS,
        digits.test,
        statistics=digits.train.take(100),
        strategy=strategy,
        precision=precision,
    )
    assert found.strategy.name == strategy
    close = 1e-6 if found.precision == "highest" else 1e-3
    assert (found.errors == errors).all()
    np.testing.assert_allclose(found.loss, losses.mean(1), rtol=close, atol=close)


@pytest.mark.skipif(not has_bfloat16(), reason="the processor has no instructions for bfloat16")
@pytest.mark.parametrize("model", [*MODELS, "transformer"])
def test_fast_is_fast_where_the_processor_can(model, digits):
    module, states = trained(model, digits)
    found = evaluate(module, states, ROWS, digits.test.take(40), strategy="lowered", precision="fast")
    assert found.precision == "fast"


def test_the_plain_loop_is_the_definition():
    """By hand: one linear layer, whose logits are linear in the coefficients."""
    module = nn.Linear(3, 4)
    states = [nn.Linear(3, 4).state_dict() for _ in range(2)]
    data = Split(torch.randn(20, 3), torch.randint(0, 4, (20,)))
    losses, errors = evaluate_plainly(module, states, np.array([[0.3, 0.7]]), data)
    ends = [F.linear(data.inputs.double(), s["weight"].double(), s["bias"].double()) for s in states]
    logits = 0.3 * ends[0] + 0.7 * ends[1]
    expected = F.cross_entropy(logits, data.labels, reduction="none").numpy()
    np.testing.assert_allclose(losses[0], expected, rtol=1e-12)
    assert (errors[0] == (logits.argmax(1) != data.labels).numpy()).all()
