from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmatch.kernels import Moments

UNITS, SAMPLES = 5, 64


def related(samples=SAMPLES, mean=0.0, seed=0):
    """Activations of two networks with correlated units, shapes [units, samples], float32."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(UNITS, samples, generator=generator)
    b = 0.6 * a[torch.randperm(UNITS, generator=generator)] + 0.4 * torch.randn(UNITS, samples, generator=generator)
    return a + mean, b - mean


def stream(a, b, sizes):
    moments = Moments()
    for x, y in zip(a.split(sizes, 1), b.split(sizes, 1), strict=True):
        moments.update(x, y)
    return moments


def correlation(a, b):
    return np.corrcoef(a.double().numpy(), b.double().numpy())[: len(a), len(a) :]


def inner(a, b):
    return a.double().numpy() @ b.double().numpy().T / a.shape[1]


@given(cuts=st.sets(st.integers(1, SAMPLES - 1)), mean=st.sampled_from([0.0, 3.0, 1000.0]))
@settings(max_examples=50, deadline=None)
def test_any_split_into_batches_gives_the_moments_of_all_samples(cuts, mean):
    a, b = related(mean=mean)
    edges = [0, *sorted(cuts), SAMPLES]
    moments = stream(a, b, list(np.diff(edges)))
    assert moments.count == SAMPLES
    np.testing.assert_allclose(moments.pearson().numpy(), correlation(a, b), atol=1e-5)
    np.testing.assert_allclose(moments.linear().numpy(), inner(a, b), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sizes", [4000, 250, 7])
@pytest.mark.parametrize("mean", [1e3, -1e3, 1e4])
def test_correlation_survives_a_mean_far_above_the_deviation(sizes, mean):
    a, b = related(samples=4000, mean=mean)
    np.testing.assert_allclose(stream(a, b, sizes).pearson().numpy(), correlation(a, b), atol=1e-4)


def test_batches_that_differ_from_each_other_are_pooled():
    """Averaging the correlations or deviations of batches would miss what varies between them."""
    a, b = related(samples=100)
    drift = torch.arange(4.0).repeat_interleave(25) * 10
    a, b = a + drift, b - drift
    np.testing.assert_allclose(stream(a, b, 25).pearson().numpy(), correlation(a, b), atol=1e-5)


def test_a_first_batch_far_from_the_rest_costs_little_precision():
    a, b = related(samples=2000)
    a[:, :4] += 1000
    b[:, :4] -= 500
    np.testing.assert_allclose(stream(a, b, 4).pearson().numpy(), correlation(a, b), atol=1e-4)


@pytest.mark.parametrize("constant", [0.0, 0.1, -1234.567])
def test_units_that_never_vary_correlate_with_nothing_and_are_counted(constant):
    a, b = related()
    a[1], b[3], b[4] = constant, constant, 7.0
    moments = stream(a, b, 9)
    pearson = moments.pearson()
    assert torch.isfinite(pearson).all()
    assert (pearson[1] == 0).all()
    assert (pearson[:, 3:] == 0).all()
    assert (pearson[[0, 2, 3, 4], :3] != 0).all()
    alive_a, alive_b = moments.alive()
    assert alive_a.tolist() == [True, False, True, True, True]
    assert alive_b.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("level", [0.3, -1000.0])
def test_a_unit_that_varies_by_rounding_alone_is_dead(level):
    a, b = related()
    steps = torch.randint(-2, 3, (SAMPLES,))
    a[0] = level * (1 + steps * torch.finfo(torch.float32).eps)
    assert a[0].std() > 0
    moments = stream(a, b, 16)
    assert moments.alive()[0].tolist() == [False, True, True, True, True]
    assert (moments.pearson()[0] == 0).all()


def test_a_unit_that_is_off_in_the_first_batch_counts_once_it_fires():
    a, b = related()
    a[0, :32] = 0.0
    moments = stream(a, b, 32)
    assert moments.alive()[0].all()
    np.testing.assert_allclose(moments.pearson().numpy(), correlation(a, b), atol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_neither_correlation_nor_life_depends_on_the_scale(scale):
    a, b = related()
    moments = stream(a * scale, b, 16)
    assert moments.alive()[0].all()
    np.testing.assert_allclose(moments.pearson().numpy(), correlation(a, b), atol=1e-5)


def test_a_single_sample_leaves_every_unit_dead():
    a, b = related(samples=1)
    moments = stream(a, b, 1)
    assert not moments.alive()[0].any()
    assert (moments.pearson() == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_widened_and_the_result_is_float64(dtype):
    a, b = (x.to(dtype) for x in related())
    moments = stream(a, b.float(), 10)
    assert moments.pearson().dtype == moments.linear().dtype == torch.float64
    np.testing.assert_allclose(moments.pearson().numpy(), correlation(a, b.float()), atol=1e-5)


def test_updates_do_not_change_their_inputs():
    a, b = related(mean=5.0)
    before = a.clone(), b.clone()
    stream(a, b, 8)
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
