from __future__ import annotations

import itertools

import pytest
import torch

from fastmatch.errors import OptionError
from fastmatch.kernels import feature_products

IMPLEMENTATIONS = ["reference", "gpu"]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
# Examples and features; few examples of many features are divided among programs.
SHAPES = [(1,), (5,), (3, 1), (2, 127), (4, 3, 5, 7), (1, 4097), (1, 3, 90, 200), (70, 2, 1, 3)]
EMPTY = [(0,), (0, 3), (3, 0), (2, 0, 4)]
VIEWS = {
    "columns": lambda values: values.movedim(1, -1),  # one axis of features for each of the four
    "channels last": lambda values: values.to(memory_format=torch.channels_last),
    "examples last": lambda values: values.permute(3, 0, 1, 2),
    "every second": lambda values: values[::2, :, ::2, 1:],
    "one example": lambda values: values[:1].expand(4, -1, -1, -1),
    "one channel": lambda values: values[:, :1].expand(-1, 3, -1, -1),
    "four axes": lambda values: values.unflatten(1, (2, 3)).permute(0, 2, 4, 1, 3)[:, ::2, ::2, :, ::2],
}


def random(count, shape, dtype, device):
    return [torch.randn(shape).to(device, dtype) for _ in range(count)]


def assert_products(result, values):
    """Against float64, pair by pair; sums are as exact as their terms are large."""
    assert result.dtype == torch.float64
    assert result.shape == (len(values[0]), len(values), len(values))
    wide = [value.double().reshape(len(value), value[:1].numel()) for value in values]
    for (i, x), (j, y) in itertools.product(enumerate(wide), repeat=2):
        allowed = 1e-6 * (x * y).abs().sum(1) + 1e-12
        assert ((result[:, i, j] - (x * y).sum(1)).abs() <= allowed).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestEveryImplementation:
    @pytest.mark.parametrize("shape", SHAPES + EMPTY)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("count", [1, 3, 8])
    def test_entries_are_inner_products(self, shape, dtype, count, implementation, device):
        values = random(count, shape, dtype, device)
        assert_products(feature_products(values, implementation=implementation), values)

    @pytest.mark.parametrize("count", range(1, 9))
    def test_up_to_eight_tensors_are_compared(self, count, implementation, device):
        values = random(count, (3, 1500), torch.float32, device)
        assert_products(feature_products(values, implementation=implementation), values)

    @pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_any_strides_will_do(self, view, dtype, implementation, device):
        values = [view(value) for value in random(3, (4, 6, 5, 8), dtype, device)]
        assert_products(feature_products(values, implementation=implementation), values)

    @pytest.mark.parametrize(
        "change",
        [
            lambda value: value.to(memory_format=torch.channels_last),
            lambda value: value.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2),
            lambda value: value[:, :, :1].expand(-1, -1, 5, -1),
            lambda value: value.repeat(2, 2, 1, 1)[::2, 6:],
        ],
        ids=["channels last", "columns first", "one row", "wider"],
    )
    def test_every_tensor_may_have_strides_of_its_own(self, change, implementation, device):
        first, second, third = random(3, (4, 6, 5, 8), torch.float32, device)
        values = [first, change(second), third.to(memory_format=torch.channels_last)]
        assert_products(feature_products(values, implementation=implementation), values)

    def test_one_tensor_may_be_given_twice(self, implementation, device):
        (value,) = random(1, (3, 40), torch.float32, device)
        result = feature_products([value, value], implementation=implementation)
        assert (result == result[:, :1, :1]).all()

    def test_not_finite_features_stay_with_their_tensor_and_example(self, implementation, device):
        values = random(3, (2, 700), torch.float32, device)
        values[1][0, 650] = torch.nan
        result = feature_products(values, implementation=implementation).isnan().tolist()
        assert result == [[[False, True, False], [True, True, True], [False, True, False]], [[False] * 3] * 3]

    def test_half_features_whose_squares_overflow_have_norms(self, implementation, device):
        values = [torch.full((2, 10), 300.0, dtype=torch.float16, device=device)]
        assert feature_products(values, implementation=implementation).tolist() == [[[900000.0]]] * 2

    def test_the_same_products_come_out_again(self, implementation, device):
        values = random(3, (2, 20_000), torch.float32, device)
        once, again = (feature_products(values, implementation=implementation) for _ in range(2))
        assert torch.equal(once, again)

    @pytest.mark.parametrize("count", [0, 9])
    def test_only_one_to_eight_tensors_are_taken(self, count, implementation, device):
        values = random(count, (2, 3), torch.float32, device)
        with pytest.raises(ValueError, match=f"1 to 8 tensors, received {count}"):
            feature_products(values, implementation=implementation)

    @pytest.mark.parametrize(
        ("other", "named"),
        [
            (torch.zeros(2, 4), r"\(2, 3\) float32, \(2, 4\) float32"),
            (torch.zeros(2, 3, 1), r"\(2, 3, 1\)"),
            (torch.zeros(2, 3, dtype=torch.float16), "float16"),
        ],
    )
    def test_other_shapes_and_types_are_refused(self, other, named, implementation):
        with pytest.raises(ValueError, match=named):
            feature_products([torch.zeros(2, 3), other], implementation=implementation)

    def test_a_tensor_without_examples_is_refused(self, implementation):
        with pytest.raises(ValueError, match=r"received \(\) float32"):
            feature_products([torch.tensor(1.0)], implementation=implementation)


def test_float64_features_keep_their_digits():
    values = random(4, (5, 3, 70), torch.float64, "cpu")
    expected = torch.einsum("inck,jnck->nij", torch.stack(values), torch.stack(values))
    torch.testing.assert_close(feature_products(values), expected, rtol=1e-13, atol=1e-13)


def test_the_kernel_refuses_float64(device):
    with pytest.raises(OptionError, match="float64 is not float32"):
        feature_products([torch.zeros(1, 4, dtype=torch.float64, device=device)], implementation="gpu")
