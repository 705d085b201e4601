"""The algebra of axis labels: unify, split, factor, pin."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmatch.symmetry.algebra import factor, split, unify
from fastmatch.symmetry.labels import Atom, Concat, Mismatch, Product, atoms, pin, resolve, runs


def test_unified_atoms_are_one_and_keep_the_reason_of_either():
    for pinned in (0, 1):
        pair = [Atom(4), Atom(4)]
        pair[pinned].reason = "because"
        unify(*pair)
        assert resolve(pair[0]) is resolve(pair[1])
        assert resolve(pair[0]).reason == "because"


def test_sizes_that_differ_do_not_unify():
    with pytest.raises(Mismatch):
        unify(Atom(3), Atom(4))


def test_refining_a_pinned_atom_pins_its_pieces():
    whole = Atom(6, "fixed")
    left, right = split(whole, 2)
    assert {atom.reason for atom in (*atoms(left), *atoms(right))} == {"fixed"}
    assert [atom.reason for atom in atoms(Product(factor(Atom(6, "fixed"), 2)))] == ["fixed", "fixed"]


def test_concatenations_with_other_cuts_meet_in_the_common_refinement():
    first, second = Concat((Atom(2), Atom(4))), Concat((Atom(3), Atom(3)))
    unify(first, second)
    assert [atom.size for atom in atoms(first)] == [2, 1, 3]
    assert [id(atom) for atom in atoms(first)] == [id(atom) for atom in atoms(second)]


def test_products_with_other_blocks_meet_in_the_common_refinement():
    first, second = Product((Atom(2), Atom(6))), Product((Atom(4), Atom(3)))
    unify(first, second)
    assert [atom.size for atom in atoms(first)] == [2, 2, 3]
    assert [id(atom) for atom in atoms(first)] == [id(atom) for atom in atoms(second)]


def test_blocks_that_do_not_nest_are_a_mismatch():
    with pytest.raises(Mismatch):
        unify(Product((Atom(2), Atom(3))), Product((Atom(3), Atom(2))))


def test_a_cut_inside_a_block_is_a_mismatch():
    with pytest.raises(Mismatch):
        split(Product((Atom(2), Atom(3))), 2)


def test_a_label_cannot_contain_itself():
    atom = Atom(6)
    blocks, inside = factor(atom, 2)
    with pytest.raises(Mismatch):
        unify(inside, Product((inside, Atom(1), blocks)) if inside.size == 6 else Concat((inside, inside)))


def test_pinning_reaches_every_piece_and_the_first_reason_stays():
    axis = Concat((Atom(2), Product((Atom(2), Atom(3)))))
    pin(axis, "first")
    pin(axis, "second")
    assert [atom.reason for atom in atoms(axis)] == ["first"] * 3


@st.composite
def labels(draw, size):
    """A random structure over ``size`` positions."""
    kind = draw(st.sampled_from(["atom", "concat", "product"])) if size > 1 else "atom"
    if kind == "concat":
        cut = draw(st.integers(1, size - 1))
        return Concat((draw(labels(cut)), draw(labels(size - cut))))
    divisors = [d for d in range(2, size) if size % d == 0]
    if kind == "product" and divisors:
        outer = draw(st.sampled_from(divisors))
        return Product((draw(labels(outer)), draw(labels(size // outer))))
    return Atom(size)


@given(labels(24))
def test_runs_cover_every_position_once(axis):
    positions = []
    for run in runs(axis):
        grid = np.full((), run.offset)
        for atom, stride in run.factors:
            grid = grid[..., None] + np.arange(atom.size) * stride
        positions += grid.ravel().tolist()
    assert sorted(positions) == list(range(24))


@given(labels(24), labels(24))
def test_unified_labels_have_the_same_runs(first, second):
    try:
        unify(first, second)
    except Mismatch:
        return
    assert sorted(map(repr, runs(first))) == sorted(map(repr, runs(second)))
