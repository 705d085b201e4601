from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from fastmatch.kernels import scores

IMPLEMENTATIONS = ["reference", "gpu"]
SHAPES = [(5, 3), (1, 1), (130, 10), (2, 7, 17), (3, 2, 5, 129), (4, 1025), (3, 4097), (0, 3), (0, 4, 3)]


def assert_equal(result, expected):
    for found, wanted in zip(result, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13, equal_nan=True)


def random(shape, dtype, device):
    logits = (10 * torch.randn(shape)).to(device, dtype)
    return logits, torch.randint(0, shape[-1], shape[-2:-1], device=device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("per_example", [False, True])
def test_the_kernel_agrees_with_the_reference(dtype, shape, per_example, device):
    logits, labels = random(shape, dtype, device)
    expected = scores(logits, labels, per_example=per_example, implementation="reference")
    found = scores(logits, labels, per_example=per_example, implementation="gpu")
    assert (found.losses is not None) == per_example
    assert_equal([part for part in found if part is not None], [part for part in expected if part is not None])


@pytest.mark.parametrize("label", [-1, 3, 17])
def test_a_class_that_is_not_there_is_never_scored(label, device):
    logits, labels = torch.zeros(2, 3, device=device), torch.tensor([1, label], device=device)
    found = scores(logits, labels, per_example=True, implementation="gpu")
    assert found.losses.isnan().tolist() == [False, True]
    assert found.errors.tolist() == [True, True]
    with pytest.raises(RuntimeError, match="out of bounds"):
        scores(logits, labels, implementation="reference")


def test_labels_elsewhere_are_refused():
    with pytest.raises(ValueError, match="labels there, received them on meta"):
        scores(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64, device="meta"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_any_strides_will_do(implementation, device):
    logits = torch.randn(17, 40, 2, device=device).permute(2, 0, 1)[:, ::2]
    labels = torch.randint(0, 40, (18,), device=device)[::2]
    expected = scores(logits.contiguous(), labels.contiguous(), per_example=True, implementation="reference")
    assert_equal(scores(logits, labels, per_example=True, implementation=implementation), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_losses_are_torchs_cross_entropy_in_float64(dtype, scale):
    logits, labels = (scale * torch.randn(50, 7)).to(dtype), torch.randint(0, 7, (50,))
    result = scores(logits, labels, per_example=True)
    expected = F.cross_entropy(logits.double(), labels, reduction="none")
    torch.testing.assert_close(result.losses, expected, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(result.loss, expected.sum(), rtol=1e-12, atol=1e-13)
    assert torch.equal(result.errors, logits.argmax(1) != labels)
    assert result.wrong == result.errors.sum()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
class TestEveryImplementation:
    def losses(self, rows, labels, implementation, device):
        logits = torch.tensor(rows, device=device)
        return scores(logits, torch.tensor(labels, device=device), per_example=True, implementation=implementation)

    def test_a_confident_network_keeps_the_digits_of_its_loss(self, implementation, device):
        result = self.losses([[20.0, 0.0]], [0], implementation, device)
        assert result.losses.item() == pytest.approx(2.061153622438558e-09, rel=1e-6)  # log(1 + e^-20); float32 gives 0

    def test_logits_beyond_the_range_of_exp_give_finite_losses(self, implementation, device):
        result = self.losses([[3e4, -3e4], [3e4, -3e4]], [0, 1], implementation, device)
        assert result.losses.tolist() == [0.0, 6e4]
        assert result.errors.tolist() == [False, True]

    def test_ties_go_to_the_smaller_class(self, implementation, device):
        rows = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 5.0, 5.0]]
        assert self.losses(rows, [0, 1, 0, 2], implementation, device).errors.tolist() == [False, True, False, True]

    def test_ties_across_blocks_of_classes_go_to_the_smaller_class(self, implementation, device):
        rows = torch.zeros(2, 3000)
        rows[:, [5, 2500]] = 1.0
        assert self.losses(rows.tolist(), [5, 2500], implementation, device).errors.tolist() == [False, True]

    def test_uniform_logits_cost_the_logarithm_of_the_number_of_classes(self, implementation, device):
        result = self.losses([[0.0] * 10] * 3, [0, 5, 9], implementation, device)
        torch.testing.assert_close(result.losses.cpu(), torch.full((3,), 10.0, dtype=torch.float64).log())

    def test_an_example_with_nan_is_wrong_and_the_others_count(self, implementation, device):
        nan = float("nan")
        result = self.losses([[nan, 1.0], [nan, nan], [1.0, 0.0]], [0, 0, 0], implementation, device)
        assert result.losses.isnan().tolist() == [True, True, False]
        assert result.errors.tolist() == [True, True, False]
        assert result.wrong == 2
        assert result.loss.isnan()

    def test_infinite_logits_are_torchs_cross_entropy(self, implementation, device):
        inf = float("inf")
        result = self.losses([[inf, 0.0], [-inf, 0.0], [-inf, -inf]], [1, 1, 0], implementation, device)
        assert result.losses[:2].tolist() == [inf, 0.0]
        assert result.losses[2].isnan()

    def test_a_class_ruled_out_in_a_whole_block_does_no_harm(self, implementation, device):
        logits = torch.full((1, 2000), -torch.inf)
        logits[0, 1500] = -1e4
        assert self.losses(logits.tolist(), [1500], implementation, device).losses.tolist() == [0.0]

    def test_labels_of_another_length_are_refused(self, implementation, device):
        with pytest.raises(ValueError, match="need labels"):
            scores(torch.zeros(3, 2, device=device), torch.zeros(4, dtype=torch.int64), implementation=implementation)
