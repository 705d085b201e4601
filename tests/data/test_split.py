from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fastmatch.data import Split
from fastmatch.errors import DataError, OptionError


def numbered(count: int) -> Split:
    index = torch.arange(count)
    return Split(index.float().unsqueeze(1), index)


@given(count=st.integers(1, 300), size=st.integers(2, 64))
def test_batches_cover_all_examples_in_order_as_evenly_as_possible(count: int, size: int) -> None:
    batches = list(numbered(count).batches(size))
    sizes = [len(labels) for _, labels in batches]
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(count))
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= max(size, 3)
    assert min(sizes) >= 2 or count == 1
    for inputs, labels in batches:
        torch.testing.assert_close(inputs[:, 0], labels.float())


def test_three_examples_in_batches_of_two_stay_together() -> None:
    assert [len(labels) for _, labels in numbered(3).batches(2)] == [3]


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(OptionError, match="batch size 1 is too small"):
        numbered(4).batches(1)


def test_subsets_are_nested_keep_pairs_together_and_depend_on_the_seed() -> None:
    split = numbered(100)
    large, small = split.take(50), split.take(20)
    assert small.labels.tolist() == large.labels[:20].tolist()
    assert len(set(large.labels.tolist())) == 50
    torch.testing.assert_close(large.inputs[:, 0], large.labels.float())
    assert large.labels.tolist() != list(range(50))
    assert split.take(50, seed=1).labels.tolist() != large.labels.tolist()


@pytest.mark.parametrize("n", [10, 11])
def test_taking_everything_returns_the_split_itself(n: int) -> None:
    split = numbered(10)
    assert split.take(n) is split


def test_taking_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="cannot take 0 examples"):
        numbered(10).take(0)


def test_taking_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    numbered(10).take(5)
    assert torch.equal(torch.get_rng_state(), before)
