from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmatch.errors import OptionError
from fastmatch.kernels import combine

IMPLEMENTATIONS = ["reference", "gpu"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Combinations, networks, parameters; rows of whole vectors of 16 bytes among them, and rows of more than a block.
SHAPES = [(1, 1, 1), (3, 2, 127), (25, 2, 1024), (4, 3, 4097), (2, 9, 8 * 300), (1, 3, 2051)]
EMPTY = [(0, 2, 5), (2, 0, 5), (2, 3, 0), (0, 0, 0)]
# One place of the result's type; the interpreter truncates to bfloat16.
ROUNDING = {torch.float64: 1e-15, torch.float32: 1e-6, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-7}


def random(shape, dtype, device):
    combinations, networks, parameters = shape
    return (
        torch.randn(networks, parameters, dtype=torch.float64).to(device, dtype),
        torch.randn(combinations, networks, dtype=torch.float64),
    )


def assert_combined(result, sets, coefficients, dtype):
    """Against float64; sums are as exact as their terms are large."""
    coefficients = coefficients.to(sets.device)
    exact = coefficients @ sets.double()
    terms = coefficients.abs() @ sets.double().abs()
    assert result.dtype == dtype
    assert result.shape == exact.shape
    allowed = ROUNDING[dtype] * exact.abs() + 1e-6 * terms + 1e-7
    assert ((result.double() - exact).abs() <= allowed).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestEveryImplementation:
    @pytest.mark.parametrize("shape", SHAPES + EMPTY)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("returned", [None, *DTYPES])
    def test_rows_are_weighted_sums(self, shape, dtype, returned, implementation, device):
        sets, coefficients = random(shape, dtype, device)
        result = combine(sets, coefficients, dtype=returned, implementation=implementation)
        assert_combined(result, sets, coefficients, returned or torch.float32)

    @pytest.mark.parametrize(
        "view",
        [
            lambda sets: sets[:, 8:-8],
            lambda sets: sets[:, 3:],
            lambda sets: sets[::2],
            lambda sets: sets[:1].expand(4, -1),
            lambda sets: sets[:, ::3],
            lambda sets: sets.mT.contiguous().mT,
            lambda sets: sets.view(-1)[4:-4].view(1, -1),
        ],
        ids=["inner", "odd start", "every second", "one set", "every third", "columns first", "one row"],
    )
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_any_strides_will_do(self, view, dtype, implementation, device):
        sets = view(torch.randn(4, 1040, device=device).to(dtype))
        coefficients = torch.randn(3, len(sets), dtype=torch.float64)
        assert_combined(combine(sets, coefficients, implementation=implementation), sets, coefficients, torch.float32)

    @pytest.mark.parametrize("place", range(3))
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("parameters", [1, 127, 1600])
    def test_a_lone_one_is_that_set_to_the_last_bit(self, place, dtype, parameters, implementation, device):
        sets, _ = random((1, 3, parameters), dtype, device)
        sets[:, 0] = -0.0
        row = torch.eye(3)[place : place + 1]
        result = combine(sets, row, dtype=dtype, implementation=implementation)
        assert torch.equal(result.view(torch.uint8), sets[place : place + 1].view(torch.uint8))

    @pytest.mark.parametrize("parameters", [127, 1600])
    @pytest.mark.parametrize("zero", [0.0, -0.0, 1e-60], ids=["zero", "negative", "zero in float32"])
    def test_a_set_with_coefficient_zero_has_no_say_whatever_it_holds(self, parameters, zero, implementation, device):
        sets = torch.randn(3, parameters, device=device)
        sets[1] = torch.tensor([torch.nan, torch.inf, -torch.inf], device=device).repeat(parameters)[:parameters]
        rows = torch.tensor([[1.0, zero, 0.0], [0.5, zero, 0.25], [0.0, zero, -1.0]], dtype=torch.float64)
        result = combine(sets, rows, implementation=implementation)
        assert_combined(result, sets[[0, 2]], rows[:, [0, 2]], torch.float32)
        assert torch.equal(result[0], sets[0])

    def test_what_is_not_finite_stays_so(self, implementation, device):
        sets = torch.tensor([[torch.nan, torch.inf, torch.inf, 1.0], [1.0, 1.0, torch.inf, 1.0]], device=device)
        result = combine(sets, [[1.0, -1.0], [torch.nan, 1.0]], implementation=implementation).cpu()
        assert result[0].isnan().tolist() == [True, False, True, False]
        assert result[0, 1] == torch.inf
        assert result[1].isnan().all()

    @pytest.mark.parametrize("networks", [0, 1, 3])
    def test_without_coefficients_there_is_zero(self, networks, implementation, device):
        result = combine(
            torch.randn(networks, 9, device=device), torch.zeros(2, networks), implementation=implementation
        )
        assert torch.equal(result.cpu().view(torch.int32), torch.zeros(2, 9, dtype=torch.int32))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
    def test_the_result_shares_no_memory_with_the_sets(self, dtype, implementation, device):
        sets, _ = random((1, 2, 16), dtype, device)
        before = sets.clone()
        combine(sets, [[1.0, 0.0]], dtype=dtype, implementation=implementation).fill_(7)
        assert torch.equal(sets, before)

    @pytest.mark.parametrize("form", [np.asarray, torch.tensor, list], ids=["array", "tensor", "list"])
    def test_coefficients_come_in_any_form(self, form, implementation, device):
        sets = torch.randn(2, 5, device=device)
        result = combine(sets, form([[2.0, 0.0], [0.0, 4.0]]), implementation=implementation)
        assert torch.equal(result, sets * torch.tensor([[2.0], [4.0]], device=device))

    def test_halves_are_added_in_float32(self, implementation, device):
        sets = torch.tensor([[60000.0, 1.0], [60000.0, 2.0**-10]], device=device, dtype=torch.float16)
        result = combine(sets, [[1.0, 1.0]], implementation=implementation)
        assert result.tolist() == [[120000.0, 1 + 2.0**-10]]
        result = combine(sets, [[2.0, -2.0]], dtype=torch.float16, implementation=implementation)
        assert result.tolist() == [[0.0, 2 - 2.0**-9]]

    @pytest.mark.parametrize(
        ("sets", "coefficients"), [((2, 5), (1, 3)), ((2, 5), (2,)), ((5,), (1, 5)), ((1, 2, 5), (1, 1))]
    )
    def test_shapes_that_do_not_fit_are_refused(self, sets, coefficients, implementation, device):
        with pytest.raises(ValueError, match="do not fit"):
            combine(torch.zeros(sets, device=device), torch.zeros(coefficients), implementation=implementation)


@pytest.mark.parametrize("shape", SHAPES + EMPTY)
@pytest.mark.parametrize(("given", "asked"), [(torch.float64, None), (torch.float64, torch.float32)])
def test_float64_is_added_in_float64(shape, given, asked):
    sets, coefficients = random(shape, given, "cpu")
    returned = asked or given
    result = combine(sets, coefficients, dtype=asked)
    assert result.dtype == returned
    torch.testing.assert_close(result, (coefficients @ sets).to(returned), rtol=ROUNDING[returned], atol=1e-14)


def test_a_float64_result_of_float32_sets_is_added_in_float64():
    sets, coefficients = random((3, 2, 50), torch.float32, "cpu")
    result = combine(sets, coefficients, dtype=torch.float64)
    torch.testing.assert_close(result, coefficients @ sets.double(), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(("given", "returned"), [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_the_kernel_refuses_float64(given, returned, device):
    with pytest.raises(OptionError, match="float64 is not float32"):
        combine(torch.zeros(1, 4, dtype=given, device=device), [[1.0]], dtype=returned, implementation="gpu")


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (lambda sets: sets, True),
        (lambda sets: sets[:, 8:], True),
        (lambda sets: sets[:1, 8:24], True),
        (lambda sets: sets[1:, 1:9], False),
        (lambda sets: sets[:, :12], False),
        (lambda sets: sets.view(-1)[: 3 * 40].view(3, 40)[:, :32], True),
        (lambda sets: sets.view(-1)[: 3 * 42].view(3, 42)[:, :32], False),
    ],
    ids=["all", "later", "one row", "odd start", "half a vector", "padded rows", "odd rows"],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_are_used_only_where_every_row_consists_of_them(view, expected, dtype):
    from fastmatch.kernels.combine.gpu import is_aligned

    assert is_aligned(view(torch.zeros(4, 64, dtype=dtype))) is expected
