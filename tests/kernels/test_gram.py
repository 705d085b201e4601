from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmatch.kernels import gram

TOLERANCE = {torch.float16: 1e-5, torch.bfloat16: 1e-5, torch.float32: 1e-5, torch.float64: 1e-13}


def matrices(units, widths, dtype):
    return [(torch.randn(units, width).to(dtype), torch.randn(units, width).to(dtype)) for width in widths]


def exact(pairs):
    return sum(a.double().numpy() @ b.double().numpy().T for a, b in pairs)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("widths", [(1,), (300,), (5, 1, 40)])
def test_gram_is_the_sum_of_products_over_pairs_of_any_width(dtype, widths):
    pairs = matrices(7, widths, dtype)
    scale = sum(np.abs(a.double().numpy()) @ np.abs(b.double().numpy()).T for a, b in pairs)
    assert (np.abs(gram(pairs).double().numpy() - exact(pairs)) <= TOLERANCE[dtype] * scale).all()


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        (torch.float16, torch.float16, torch.float32),
        (torch.bfloat16, torch.float16, torch.float32),
        (torch.float32, torch.float32, torch.float32),
        (torch.float64, torch.float64, torch.float64),
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float16, torch.float64),
    ],
)
def test_gram_is_as_wide_as_its_wider_input_and_at_least_float32(first, second, result):
    assert gram([(torch.randn(3, 4).to(first), torch.randn(3, 4).to(second))]).dtype == result


def test_half_inputs_are_widened_before_the_product():
    a = torch.full((1, 4096), 1.0, dtype=torch.float16)
    b = torch.full((1, 4096), 100.0, dtype=torch.float16)
    assert gram([(a, b)]).item() == 409_600  # beyond the largest float16, 65504


def test_rows_belong_to_the_first_and_columns_to_the_second_matrix():
    a, b = torch.tensor([[1.0], [2.0]]), torch.tensor([[10.0], [100.0]])
    assert gram([(a, b)]).tolist() == [[10.0, 100.0], [20.0, 200.0]]


def test_gram_reads_a_generator_and_changes_no_input():
    pairs = matrices(4, (3, 2), torch.float32)
    before = [(a.clone(), b.clone()) for a, b in pairs]
    total = gram(pair for pair in pairs)
    assert torch.equal(total, gram(pairs))
    assert all(torch.equal(x, y) for old, new in zip(before, pairs, strict=True) for x, y in zip(old, new, strict=True))


def test_gram_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one pair"):
        gram([])


@pytest.mark.parametrize("widths", [(1,), (3, 40, 2000, 5), (9000, 9000), ()])
def test_gram_adds_to_a_sum_in_place(widths):
    pairs = matrices(7, widths, torch.float32)
    before = torch.randn(7, 7)
    total = before.clone()
    assert gram(iter(pairs), total) is total
    np.testing.assert_allclose(total.numpy(), before.double().numpy() + exact(pairs), rtol=0, atol=2e-3)


def test_gram_widens_a_sum_that_is_too_narrow():
    total = torch.zeros(3, 3)
    wide = gram(matrices(3, (2,), torch.float64), total)
    assert wide.dtype == torch.float64
    assert not total.any()
