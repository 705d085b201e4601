from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmatch.errors import OptionError
from fastmatch.kernels import Moments
from fastmatch.kernels.moments.batch import Batch
from fastmatch.kernels.moments.plan import plan

UNITS, SAMPLES = 5, 64
IMPLEMENTATIONS = ["reference", "gpu"]


def channels_last(*shape):
    return torch.randn(shape).to(memory_format=torch.channels_last)


# Activations of two or three networks, and the axes of their units.
CASES = {
    "units first": lambda: ([torch.randn(5, 64), torch.randn(5, 64)], (0,)),
    "one of each": lambda: ([torch.randn(1, 1), torch.randn(1, 1)], (0,)),
    "features": lambda: ([torch.randn(70, 33), torch.randn(70, 33)], (1,)),
    "features side by side": lambda: ([torch.randn(70, 72), torch.randn(70, 72)], (1,)),
    "tokens": lambda: ([torch.randn(3, 7, 40), torch.randn(3, 7, 40)], (2,)),
    "images": lambda: ([torch.randn(4, 17, 8, 8), torch.randn(4, 17, 8, 8)], (1,)),
    "odd images": lambda: ([torch.randn(3, 70, 5, 3), torch.randn(3, 70, 5, 3)], (1,)),
    "images, channels last": lambda: ([channels_last(3, 16, 5, 5), channels_last(3, 16, 5, 5)], (1,)),
    "one of them channels last": lambda: ([torch.randn(3, 16, 5, 5), channels_last(3, 16, 5, 5)], (1,)),
    "heads and their coordinates": lambda: ([torch.randn(5, 3, 7, 4), torch.randn(5, 3, 7, 4)], (1, 3)),
    "coordinates of heads": lambda: ([torch.randn(5, 3, 7, 4), torch.randn(5, 3, 7, 4)], (3, 1)),
    "every other sample": lambda: ([torch.randn(9, 80)[:, ::2], torch.randn(9, 40)], (0,)),
    "not on a border of 16 bytes": lambda: ([torch.randn(8, 65)[:, 1:], torch.randn(8, 64)], (0,)),
    "more axes than the kernel follows": lambda: (
        [torch.randn(4, 6, 8, 5, 4, 6)[::2, ::2, ::2, :, ::2, ::2], torch.randn(2, 3, 4, 5, 2, 3)],
        (3,),
    ),
    "axes in any order": lambda: (
        [torch.randn(2, 3, 4, 5, 2), torch.randn(4, 5, 2, 3, 2).permute(4, 3, 0, 1, 2)],
        (3,),
    ),
    "many samples": lambda: ([torch.randn(3, 20000), torch.randn(3, 20000)], (0,)),
    "other widths": lambda: ([torch.randn(9, 40), torch.randn(35, 40)], (0,)),
    "all units of a batch": lambda: ([torch.randn(6, 5), torch.randn(6, 5)], (0, 1)),
}


def laid_out(value, dtype, device):
    """``value + 2`` of another type, in the same layout."""
    whole = value.as_strided((value.untyped_storage().nbytes() // value.element_size(),), (1,), 0)
    return (whole + 2).to(device, dtype).as_strided(value.shape, value.stride(), value.storage_offset())


def moved(value, axes):
    return (
        value.double()
        .movedim(axes, tuple(range(len(axes))))
        .flatten(0, len(axes) - 1)
        .reshape(int(np.prod([value.shape[axis] for axis in axes])), -1)
    )


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CASES)
def test_every_implementation_agrees_with_float64(name, implementation, dtype, relu, device):
    values, axes = CASES[name]()
    placed = [laid_out(value, dtype, device) for value in values]
    values = [value.cpu() for value in placed]
    moments = Moments(implementation=implementation)
    moments.update(*(value[:1] if 0 not in axes else value for value in placed), axes=axes, relu=relu)
    moments.update(*placed, axes=axes, relu=relu)
    parts = [moved(value[:1], axes) if 0 not in axes else moved(value, axes) for value in values]
    wide = [torch.cat([part, moved(value, axes)], 1) for part, value in zip(parts, values, strict=True)]
    a, b = (value.relu() if relu else value for value in wide)
    assert moments.count == a.shape[1]
    linear = a @ b.T / a.shape[1]
    centred = [value - value.mean(1, keepdim=True) for value in (a, b)]
    covariance = centred[0] @ centred[1].T / a.shape[1]
    assert float((moments.linear().cpu() - linear).norm()) <= 1e-6 * float(linear.norm())
    assert float((moments.covariance().cpu() - covariance).norm()) <= 1e-6 * float(linear.norm())
    for alive, value in zip(moments.alive(), centred, strict=True):
        assert torch.equal(alive.cpu(), value.square().mean(1) > 1e-8)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_network_without_units_leaves_the_other_its_sums(implementation, device):
    moments = Moments(implementation=implementation)
    moments.update(torch.zeros(0, 4, device=device), torch.eye(3, 4, device=device) * 2)
    assert moments.linear().shape == (0, 3)
    assert [alive.tolist() for alive in moments.alive()] == [[], [True] * 3]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("types", [(torch.float64, torch.float32), (torch.float32, torch.float16)])
def test_batches_may_be_of_other_types(types, implementation, device):
    a, b = related(mean=100.0)
    moments = Moments(implementation="auto")
    moments.update(a[:, :20].to(types[0]), b[:, :20].to(types[0]))
    moments.implementation = implementation
    later = [value[:, 20:].to(types[1]) for value in (a, b)]
    moments.update(*(value.to(device) for value in later))
    wide = [
        torch.cat([value[:, :20].to(types[0]).double(), part.double()], 1)
        for value, part in zip((a, b), later, strict=True)
    ]
    np.testing.assert_allclose(moments.pearson().cpu().numpy(), correlation(*wide), atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("pairs", [[(0, 1), (0, 2)], [(0, 1), (0, 2), (1, 2)], [(2, 0), (1, 1), (0, 0)]])
def test_several_networks_are_compared_in_one_pass(implementation, pairs, device):
    values = [torch.randn(units, 100) for units in (40, 7, 33)]
    moments = Moments(pairs, implementation=implementation)
    moments.update(*(value.to(device) for value in values))
    for number, (first, second) in enumerate(pairs):
        expected = inner(values[first], values[second])
        np.testing.assert_allclose(moments.linear(number).cpu().numpy(), expected, rtol=0, atol=1e-6)
    assert [len(alive) for alive in moments.alive()] == [40, 7, 33]


@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 1e-6), ("high", 1e-5), ("fast", 1e-3)])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_precisions_keep_what_they_promise(precision, tolerance, implementation, device):
    a, b = related(samples=3000, mean=1000.0)
    moments = Moments(precision=precision, implementation=implementation)
    for x, y in zip(a.split(500, 1), b.split(500, 1), strict=True):
        moments.update(x.to(device), y.to(device))
    expected = np.cov(a.double().numpy(), b.double().numpy(), bias=True)[:UNITS, UNITS:]
    error = np.linalg.norm(moments.covariance().cpu().numpy() - expected) / np.linalg.norm(expected)
    assert error <= max(tolerance, 2e-6)  # a mean of 1000 leaves float32 values that many digits of their own


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_is_not_hidden_by_relu(implementation, device):
    values = torch.tensor([[1.0, torch.nan, 2.0], [1.0, 2.0, 4.0]], device=device)
    moments = Moments(implementation=implementation)
    moments.update(values, values, relu=True)
    assert moments.linear().isnan().tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("images", "samples"),
        ("units first", "samples"),
        ("images, channels last", "units"),
        ("features side by side", "units"),
        ("tokens", "units"),
        ("odd images", "any"),
        ("features", "any"),
        ("not on a border of 16 bytes", "any"),
        ("one of them channels last", "any"),
        ("every other sample", "any"),
    ],
)
def test_the_kernel_sees_what_lies_together(name, layout):
    values, axes = CASES[name]()
    batch = Batch(values, axes, False, [(0, 1)])
    assert plan(batch, batch.means()).layout == layout


def test_samples_that_do_not_correspond_are_refused():
    with pytest.raises(ValueError, match="do not correspond"):
        Moments().update(torch.zeros(3, 4), torch.zeros(3, 5))


@pytest.mark.parametrize("axes", [(-1,), (2,), (0, 0)])
def test_axes_that_are_not_there_are_refused(axes):
    with pytest.raises(ValueError, match="different axes, from 0 on, of 2"):
        Moments().update(torch.zeros(3, 3), torch.zeros(3, 3), axes=axes)


def test_batches_of_other_units_are_refused():
    moments = Moments()
    moments.update(*related())
    with pytest.raises(ValueError, match="does not fit those before"):
        moments.update(torch.zeros(4, 4), torch.zeros(4, 4))


@pytest.mark.parametrize("pairs", [[(0, 0)], [(0, 2)], [(0, 1), (0, 2)]])
def test_pairs_name_every_network(pairs):
    with pytest.raises(ValueError, match="do not name 2 networks"):
        Moments(pairs).update(*related())


def test_an_unknown_precision_is_refused():
    with pytest.raises(OptionError, match="precision 'best'"):
        Moments(precision="best")


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
