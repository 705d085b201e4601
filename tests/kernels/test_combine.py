from __future__ import annotations

import pytest
import torch

from fastmatch.kernels import combine


def network(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(4, 3, generator=generator).to(dtype),
        "bias": torch.randn(4, generator=generator).to(dtype),
        "steps": torch.tensor(10 + seed),
        "mask": torch.tensor([seed == 0, True]),
    }


@pytest.mark.parametrize("coefficients", [(0.25, 0.75, 0.0), (1.0, -1.0, 1.0), (0.0, 0.5, 0.5), (2.0, 0.0, 0.0)])
def test_floating_tensors_are_the_weighted_sum(coefficients):
    networks = [network(seed) for seed in range(3)]
    result = combine(networks, coefficients)
    for name in ("weight", "bias"):
        expected = sum(c * n[name].double() for c, n in zip(coefficients, networks, strict=True))
        torch.testing.assert_close(result[name].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_lone_one_is_that_network_to_the_last_bit(place, dtype):
    networks = [network(seed, dtype) for seed in range(3)]
    result = combine(networks, [float(number == place) for number in range(3)])
    assert torch.equal(result["weight"], networks[place]["weight"].to(result["weight"].dtype))


def test_a_network_with_coefficient_zero_has_no_say_even_if_it_is_not_finite():
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in network(1).items() if name == "weight"}
    assert torch.equal(combine([network(0), {**network(1), **broken}], [1.0, 0.0])["weight"], network(0)["weight"])


@pytest.mark.parametrize("coefficients", [(0.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_counters_and_masks_come_from_the_first_network(coefficients):
    result = combine([network(0), network(1)], coefficients)
    assert result["steps"].item() == 10
    assert result["steps"].dtype == torch.int64
    assert result["mask"].tolist() == [True, True]


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("coefficients", [(0.3, 0.7), (0.0, 0.0)])
def test_half_types_are_added_in_float32(given, returned, coefficients):
    assert combine([network(0, given), network(1, given)], coefficients)["weight"].dtype == returned


def test_all_coefficients_zero_give_zero():
    assert combine([network(0)], [0.0])["weight"].count_nonzero() == 0


@pytest.mark.parametrize("coefficients", [(1.0, 0.0), (0.5, 0.5)])
def test_the_networks_are_neither_changed_nor_shared(coefficients):
    networks = [network(0), network(1)]
    result = combine(networks, coefficients)
    for tensor in result.values():
        tensor.fill_(0)
    for seed, given in enumerate(networks):
        assert all(torch.equal(given[name], tensor) for name, tensor in network(seed).items())


def test_one_coefficient_is_needed_for_each_network():
    with pytest.raises(ValueError, match="zip"):
        combine([network(0), network(1)], [1.0])
