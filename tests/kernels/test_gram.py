from __future__ import annotations

import numpy as np
import pytest
import torch

from fastmatch.errors import OptionError
from fastmatch.kernels import Source, Summand, gram, gram_update
from fastmatch.kernels.gram import plan

IMPLEMENTATIONS = ["reference", "gpu"]
TOLERANCE = {torch.float16: 1e-5, torch.bfloat16: 1e-5, torch.float32: 1e-5, torch.float64: 1e-13}
HALVES_AND_SINGLE = [torch.float16, torch.bfloat16, torch.float32]


def matrices(units, widths, dtype=torch.float32, device=None):
    return [tuple(torch.randn(units, width).to(device, dtype) for _ in "ab") for width in widths]


def tensor(*shape):
    return torch.randn(shape)


def pair(*shape):
    return tensor(*shape), tensor(*shape)


def permutation(size):
    return torch.from_numpy(np.random.default_rng(size).permutation(size))


def some(size, count):
    """A source that takes off what was at ``count`` places of an axis of ``size`` and adds what has come there."""
    return {"b": permutation(size)[:count], "a": torch.arange(0, 2 * count, 2), "less": torch.arange(0, 2 * count, 2)}


CASES = {
    "one unit": lambda: [Summand(*pair(1, 1))],
    "a bias": lambda: [Summand(*pair(127))],
    "a linear by its rows": lambda: [Summand(*pair(33, 70), 0, (Source(1, permutation(70)),))],
    "a linear by its columns": lambda: [Summand(*pair(70, 65), 1, (Source(0, permutation(70)),))],
    "a convolution by its output": lambda: [Summand(*pair(65, 9, 3, 3), 0, (Source(1, permutation(9)),))],
    "a convolution by its input": lambda: [Summand(*pair(5, 33, 3, 3), 1, (Source(0, permutation(5)),))],
    "channels last": lambda: [
        Summand(*(side.to(memory_format=torch.channels_last) for side in pair(6, 40, 3, 3)), 1),
        Summand(tensor(40, 6, 3, 3).to(memory_format=torch.channels_last), tensor(40, 6, 3, 3)),
    ],
    "all parameters of a group": lambda: [
        Summand(*pair(40, 7, 3, 3), 0, (Source(1, permutation(7)),)),
        Summand(*pair(40)),
        Summand(*pair(40)),
        Summand(*pair(11, 40, 3, 3), 1, (Source(0, permutation(11)),)),
        Summand(*pair(3, 40), 1),
    ],
    "columns that moved": lambda: [Summand(*pair(20, 9, 3, 3), 0, (Source(1, **some(9, 4)),))],
    "rows that moved, beside an order": lambda: [
        Summand(*pair(9, 20, 6), 1, (Source(0, **some(9, 3)), Source(2, permutation(6))))
    ],
    "moved and whole": lambda: [Summand(*pair(20, 9), 0, (Source(1, **some(9, 4)),)), Summand(*pair(20, 9))],
    "some columns": lambda: [
        Summand(*pair(20, 9), 0, (Source(1, torch.tensor([2, 2, 5]), torch.tensor([0, 8, 1])),)),
    ],
    "nothing moved": lambda: [Summand(*pair(5, 9), 0, (Source(1, **some(9, 0)),))],
    "blocks of an axis": lambda: [Summand(tensor(8, 60).unflatten(1, (15, 4)), tensor(8, 60).unflatten(1, (15, 4)), 1)],
    "a segment of an axis": lambda: [Summand(tensor(40, 6)[3:20], tensor(40, 6)[8:25])],
    "every other entry": lambda: [Summand(tensor(9, 40)[:, ::2], tensor(20, 9).T)],
    "many axes": lambda: [
        Summand(
            *pair(2, 3, 4, 5, 6), 3, (Source(0, permutation(2)), Source(2, permutation(4)), Source(4, permutation(6)))
        )
    ],
    "more axes than the kernel follows": lambda: [
        Summand(tensor(2, 3, 4, 5, 6, 3)[:, ::2], tensor(2, 2, 4, 5, 6, 3), 4, (Source(0, permutation(2)),))
    ],
    "moved, with more axes than the kernel follows": lambda: [
        Summand(tensor(2, 3, 9, 5, 6, 3)[:, ::2], tensor(2, 2, 9, 5, 6, 3), 4, (Source(2, **some(9, 4)),)),
        Summand(*pair(6)),
    ],
    "other widths": lambda: [Summand(tensor(33, 70), tensor(65, 70)), Summand(tensor(33), tensor(65))],
    "long sums": lambda: [Summand(*pair(3, 20000))],
    "no columns": lambda: [Summand(*pair(3, 0))],
    "no units": lambda: [Summand(*pair(0, 3))],
    "no units on one side": lambda: [Summand(tensor(0, 4), tensor(3, 4))],
}


def changed(summand, change):
    return summand._replace(a=change(summand.a), b=change(summand.b))


def exact(summands):
    """The sum in float64, entry by entry of the definition."""
    total = 0
    for a, b, axis, sources in (changed(summand, torch.Tensor.double) for summand in summands):
        less = b
        for source in sources:
            a = a if source.a is None else a.index_select(source.axis, source.a)
            less = less.index_select(source.axis, source.b if source.less is None else source.less)
            b = b.index_select(source.axis, source.b)
        if any(source.less is not None for source in sources):
            b = b - less
        a, b = (side.movedim(axis, 0).flatten(1) if side.dim() > 1 else side[:, None] for side in (a, b))
        total = total + a @ b.T
    return total


def norm(summands):
    """Product of the norms of what is compared."""
    return sum(float(a.double().norm() * b.double().norm()) for a, b, *_ in summands)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("dtype", HALVES_AND_SINGLE)
@pytest.mark.parametrize("name", CASES)
def test_every_implementation_agrees_with_float64(name, dtype, implementation, device):
    summands = [changed(summand, lambda side: side.to(dtype)) for summand in CASES[name]()]
    found = gram(
        [changed(summand, lambda side: side.to(device)) for summand in summands], implementation=implementation
    )
    expected = exact(summands)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert float((found.cpu().double() - expected).norm()) <= 1e-6 * norm(summands)


@pytest.mark.parametrize(("precision", "tolerance"), [("highest", 1e-6), ("high", 1e-5), ("fast", 1e-3)])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_precisions_keep_what_they_promise(precision, tolerance, implementation, device):
    summands = CASES["all parameters of a group"]()
    placed = [changed(summand, lambda side: side.to(device)) for summand in summands]
    found = gram(placed, precision=precision, implementation=implementation).cpu().double()
    expected = exact(summands)
    assert float((found - expected).norm() / expected.norm()) <= tolerance


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "name", ["columns that moved", "all parameters of a group", "moved and whole", "nothing moved"]
)
def test_updates_add_to_a_sum_in_place(name, implementation, device):
    summands = CASES[name]()
    units = summands[0].a.shape[summands[0].axis]
    before = torch.randn(units, units)
    total = before.to(device, copy=True)
    placed = [changed(summand, lambda side: side.to(device)) for summand in summands]
    assert gram_update(total, placed, implementation=implementation) is total
    expected = before.double() + exact(summands)
    torch.testing.assert_close(total.cpu().double(), expected, rtol=0, atol=1e-6 * norm(summands))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_types_may_differ_within_a_sum(implementation, device):
    summands = [(tensor(7, 5).half(), tensor(7, 5)), (tensor(7, 3), tensor(7, 3)), (tensor(7, 2).bfloat16(),) * 2]
    placed = [tuple(side.to(device) for side in sides) for sides in summands]
    expected = exact([Summand(*sides) for sides in summands])
    found = gram(placed, implementation=implementation).cpu().double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_splits_cover_every_chunk_once():
    summands = [Summand(*pair(4, width)) for width in (1, 100, 16, 17, 300, 0, 5)]
    for wanted in (1, 2, 3, 7, 1000):
        table, splits = plan.plan(summands, wanted)
        header = table[: plan.HEADER * splits].reshape(splits, plan.HEADER).tolist()
        assert splits <= max(1, wanted) + 1
        assert [begin for *_, begin, _ in header] == [0, *(end for *_, end in header[:-1])]
        assert header[-1][3] == sum(-(-width // plan.COLUMNS) for width in (1, 100, 16, 17, 300, 5))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("widths", [(1,), (300,), (5, 1, 40)])
def test_gram_is_the_sum_of_products_over_pairs_of_any_width(dtype, widths):
    pairs = matrices(7, widths, dtype)
    expected = exact([Summand(*sides) for sides in pairs])
    scale = exact([Summand(a.abs(), b.abs()) for a, b in pairs])
    assert ((gram(pairs).double() - expected).abs() <= TOLERANCE[dtype] * scale).all()


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


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_half_inputs_are_widened_before_the_product(implementation, device):
    a = torch.full((1, 4096), 1.0, dtype=torch.float16, device=device)
    b = torch.full((1, 4096), 100.0, dtype=torch.float16, device=device)
    assert gram([(a, b)], implementation=implementation).item() == 409_600  # beyond the largest float16, 65504


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_rows_belong_to_the_first_and_columns_to_the_second_matrix(implementation, device):
    a, b = torch.tensor([[1.0], [2.0]], device=device), torch.tensor([[10.0], [100.0]], device=device)
    assert gram([(a, b)], implementation=implementation).tolist() == [[10.0, 100.0], [20.0, 200.0]]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_gram_reads_a_generator_and_changes_no_input(implementation, device):
    pairs = matrices(4, (3, 2), device=device)
    before = [(a.clone(), b.clone()) for a, b in pairs]
    total = gram((pair for pair in pairs), implementation=implementation)
    assert torch.equal(total, gram(pairs, implementation=implementation))
    assert all(torch.equal(x, y) for old, new in zip(before, pairs, strict=True) for x, y in zip(old, new, strict=True))


def test_summands_on_the_cpu_are_read_one_at_a_time():
    alive = []

    def stream():
        for _ in range(5):
            alive.append(True)
            yield matrices(4, (1 << 14,))[0]
            alive.pop()

    gram(stream())
    assert not alive


def test_gram_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one summand"):
        gram([])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_shapes_that_do_not_fit_are_refused(implementation, device):
    for shapes in (((3, 4), (3, 5)), ((3, 4), (3, 4, 1))):
        with pytest.raises(ValueError, match="cannot be compared"):
            gram([tuple(torch.zeros(shape, device=device) for shape in shapes)], implementation=implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("summands", "message"),
    [
        ([Summand(tensor(3, 4), tensor(3, 4), -1)], "axes .* from 0 on"),
        ([Summand(tensor(3, 4), tensor(3, 4), 0, (Source(0, permutation(3)),))], "different axes"),
        ([Summand(tensor(3, 4), tensor(3, 4), 0, (Source(1, torch.arange(3)),))], r"different lengths: \[4, 3\]"),
        (
            [Summand(*pair(3, 4, 5), 0, (Source(1, permutation(4)), Source(2, **some(5, 2))))],
            "only the first source",
        ),
        ([Summand(tensor(3, 4), tensor(5, 4)), Summand(tensor(3, 4), tensor(4, 4))], r"3 x 5 units cannot take \(3, 4"),
    ],
)
def test_sums_that_do_not_fit_are_refused(summands, message, implementation, device):
    placed = [changed(summand, lambda side: side.to(device)) for summand in summands]
    with pytest.raises(ValueError, match=message):
        gram(placed, implementation=implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_sum_of_other_units_is_refused(implementation, device):
    summand = tuple(side.to(device) for side in pair(3, 4))
    with pytest.raises(ValueError, match="4 x 3 units cannot take"):
        gram_update(torch.zeros(4, 3, device=device), [summand], implementation=implementation)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_positions_that_are_not_there_are_refused(implementation, device):
    summand = Summand(*(side.to(device) for side in pair(3, 4)), 0, (Source(1, torch.tensor([0, 1, 2, 4])),))
    with pytest.raises((IndexError, RuntimeError), match=r"positions 0 to 4 of an axis of 4|out of"):
        gram([summand], implementation=implementation)


def test_an_unknown_precision_is_refused():
    with pytest.raises(OptionError, match="precision 'best'"):
        gram(matrices(2, (2,)), precision="best")


@pytest.mark.parametrize("widths", [(1,), (3, 40, 2000, 5), (9000, 9000), ()])
def test_gram_adds_to_a_sum_in_place(widths):
    pairs = matrices(7, widths)
    before = torch.randn(7, 7)
    total = before.clone()
    assert gram_update(total, iter(pairs)) is total
    expected = before.double() + exact([Summand(*sides) for sides in pairs])
    torch.testing.assert_close(total.double(), expected, rtol=0, atol=2e-3)


def test_gram_widens_a_sum_that_is_too_narrow():
    total = torch.zeros(3, 3)
    wide = gram_update(total, matrices(3, (2,), torch.float64))
    assert wide.dtype == torch.float64
    assert not total.any()
