"""Singular values and stable ranks of matrices with known ones."""

import math

import numpy as np
import pytest
import torch

from fastmatch.analysis import Spectrum, weight_spectrum
from fastmatch.analysis.spectra import activation_spectrum
from fastmatch.errors import ModelError, OptionError
from fastmatch.kernels import Moments


def test_stable_rank_of_one_direction_is_one_and_of_the_identity_its_size():
    one = torch.outer(torch.arange(1.0, 5), torch.arange(1.0, 8))
    assert weight_spectrum(one).stable_rank == pytest.approx(1)
    assert weight_spectrum(torch.eye(7)).stable_rank == pytest.approx(7)
    assert weight_spectrum(torch.diag(torch.tensor([1.0, 2.0]))).stable_rank == pytest.approx(5 / 4)
    assert math.isnan(weight_spectrum(torch.zeros(2, 3)).stable_rank)


def test_a_convolution_is_a_matrix_of_its_output_channels():
    kernel = torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    expected = np.linalg.svd(kernel.reshape(3, 50).double().numpy(), compute_uv=False)
    np.testing.assert_allclose(weight_spectrum(kernel).values, expected, rtol=1e-12)


def test_singular_values_of_activations_are_those_of_all_batches_together():
    values = torch.randn(60, 4, 3, 3, generator=torch.Generator().manual_seed(1)) + 2
    moments = Moments([(0, 0)])
    for batch in values.split(25):
        moments.update(batch.movedim(1, 0))
    expected = np.linalg.svd(values.movedim(1, 0).reshape(4, -1).double().numpy(), compute_uv=False)
    np.testing.assert_allclose(activation_spectrum(moments).values, expected, rtol=1e-4)


def test_what_has_no_singular_values_is_refused():
    with pytest.raises(OptionError, match="need two axes"):
        weight_spectrum(torch.ones(3))
    with pytest.raises(ModelError, match="weight holds NaN"):
        weight_spectrum(torch.tensor([[1.0, torch.nan]]))
    moments = Moments([(0, 0)])
    moments.update(torch.tensor([[1.0, torch.inf], [0.0, 1.0]]))
    with pytest.raises(ModelError, match="activations"):
        activation_spectrum(moments)


def test_values_come_from_the_largest_down():
    assert Spectrum(np.array([2.0, 1.0])).stable_rank == 1.25
    assert (np.diff(weight_spectrum(torch.randn(6, 6)).values) <= 0).all()
