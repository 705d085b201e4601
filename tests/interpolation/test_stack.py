from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fastmatch.interpolation.stack import Stack


def network(seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return {
        "steps": torch.tensor(10 + seed),
        "weight": torch.randn(4, 3, generator=generator).to(dtype),
        "scale": torch.randn((), generator=generator).to(dtype),
        "nothing": torch.zeros(2, 0).to(dtype),
        "wide": torch.randn(5, generator=generator, dtype=torch.float64),
        "half": torch.randn(2, 3, 1, generator=generator).half(),
        "mask": torch.tensor([seed == 0, True]),
        "bias": torch.randn(7, generator=generator).to(dtype),
    }


def floating(state):
    return {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("coefficients", [(0.25, 0.75, 0.0), (1.0, -1.0, 1.0), (0.0, 0.5, 0.5), (2.0, 0.0, 0.0)])
def test_floating_tensors_are_the_weighted_sum(coefficients, dtype):
    networks = [network(seed, dtype) for seed in range(3)]
    result = Stack(networks).combine(np.array(coefficients))
    assert list(result) == list(networks[0])
    for name, tensor in floating(result).items():
        expected = sum(c * n[name].double() for c, n in zip(coefficients, networks, strict=True))
        precision = 1e-14 if tensor.dtype == torch.float64 else 1e-6
        torch.testing.assert_close(tensor.double(), expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_a_lone_one_is_that_network_to_the_last_bit(place, dtype):
    networks = [network(seed, dtype) for seed in range(3)]
    result = Stack(networks).combine([float(number == place) for number in range(3)])
    for name, tensor in floating(result).items():
        assert torch.equal(tensor, networks[place][name].to(tensor.dtype))


def test_a_network_with_coefficient_zero_has_no_say_even_if_it_is_not_finite():
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in floating(network(1)).items()}
    result = Stack([network(0), {**network(1), **broken}]).combine([1.0, 0.0])
    for name, tensor in floating(result).items():
        assert torch.equal(tensor, network(0)[name].to(tensor.dtype))


@pytest.mark.parametrize("coefficients", [(0.0, 1.0), (0.5, 0.5), (0.0, 0.0)])
def test_counters_and_masks_come_from_the_first_network(coefficients):
    result = Stack([network(0), network(1)]).combine(coefficients)
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
def test_every_tensor_has_its_own_type_or_float32(given, returned, coefficients):
    result = Stack([network(0, given), network(1, given)]).combine(coefficients)
    assert {result[name].dtype for name in ("weight", "scale", "nothing", "bias")} == {returned}
    assert (result["wide"].dtype, result["half"].dtype) == (torch.float64, torch.float32)


def test_the_first_network_decides_on_types():
    result = Stack([network(0, torch.float32), network(1, torch.float64)]).combine([0.0, 1.0])
    assert torch.equal(result["weight"], network(1)["weight"])
    assert result["weight"].dtype == torch.float32


@pytest.mark.parametrize("coefficients", [(1.0, 0.0), (0.5, 0.5)])
def test_the_networks_are_neither_changed_nor_shared(coefficients):
    networks = [network(0), network(1)]
    stack = Stack(networks)
    for tensor in stack.combine(coefficients).values():
        tensor.fill_(0)
    for seed, given in enumerate(networks):
        assert all(torch.equal(given[name], tensor) for name, tensor in network(seed).items())


@pytest.mark.parametrize("coefficients", [(1.0, 0.0), (0.5, 0.5)])
def test_what_is_written_into_a_combination_is_not_in_the_next(coefficients):
    stack = Stack([network(0), network(1)])
    first = stack.combine(coefficients)
    kept = {name: tensor.clone() for name, tensor in first.items()}
    for tensor in first.values():
        tensor.fill_(0)
    again = stack.combine(coefficients)
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())


def test_tensors_are_views_of_one_flat_result_for_each_type_and_start_at_whole_vectors():
    result = floating(Stack([network(0), network(1)]).combine([0.5, 0.5]))
    for dtype in (torch.float32, torch.float64):
        views = [tensor for tensor in result.values() if tensor.dtype == dtype and tensor.numel()]
        assert len({tensor.untyped_storage().data_ptr() for tensor in views}) == 1
        assert all(tensor.data_ptr() % 16 == 0 for tensor in views)
        assert all(tensor.is_contiguous() for tensor in views)
        spans = sorted((tensor.storage_offset(), tensor.storage_offset() + tensor.numel()) for tensor in views)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_tensors_laid_out_in_any_order_are_packed_as_they_read():
    state = {"weight": torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last), "bias": torch.randn(9)[::2]}
    result = Stack([state, state]).combine([1.0, 0.0])
    assert all(torch.equal(result[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("state", [{}, {"steps": torch.tensor(3)}], ids=["nothing", "a counter"])
def test_networks_without_floating_tensors_are_the_first(state):
    result = Stack([state, state]).combine([0.5, 0.5])
    assert list(result) == list(state)
    assert all(torch.equal(result[name], tensor) for name, tensor in state.items())


def test_one_coefficient_is_needed_for_each_network():
    with pytest.raises(ValueError, match="do not fit"):
        Stack([network(0), network(1)]).combine([1.0])
