"""Views that stay undecided: picked apart they are segments, computed with they are blocks alike."""

import pytest

from fastmatch.symmetry.algebra import divide, force, narrow, split, unify
from fastmatch.symmetry.fibres import fibres
from fastmatch.symmetry.labels import Atom, Concat, Inner, Mismatch, Outer, Product, atoms, pin, resolve, runs


def test_a_view_that_is_taken_back_leaves_no_trace():
    source = Atom(24)
    blocks, heads, inside = divide(source, [3, 4, 2])
    assert resolve(Product((blocks, heads, inside))) is source
    assert source.replacement is None


def test_parts_picked_one_by_one_are_segments_of_the_source():
    source = Atom(24)
    axes = divide(source, [3, 8])
    first, second = (narrow(axes, 0, number, number + 1)[1] for number in (0, 1))
    assert isinstance(resolve(source), Concat)
    assert [atom.size for atom in atoms(source)] == [8, 8, 8]
    assert [resolve(first), resolve(second)] == list(atoms(source))[:2]


def test_the_same_part_picked_twice_has_one_label_and_its_inner_views_too():
    axes = divide(Atom(24), [3, 4, 2])
    picks = [narrow(axes, 0, 1, 2) for _ in range(2)]
    other = narrow(axes, 0, 0, 1)
    for place in (1, 2):
        first, second, elsewhere = (force(pick[place]) for pick in (*picks, other))
        assert first is second
        assert first is not elsewhere


def test_a_view_that_is_computed_with_becomes_blocks_alike():
    source = Atom(6)
    blocks, inside = divide(source, [3, 2])
    assert isinstance(blocks, Outer)
    assert isinstance(inside, Inner)
    assert [force(axis).size for axis in (blocks, inside)] == [3, 2]
    assert [atom.size for atom in atoms(source)] == [3, 2]


def test_parts_picked_apart_and_then_computed_with_together_are_one():
    source = Atom(6)
    axes = divide(source, [3, 2])
    part = narrow(axes, 0, 2, 3)[1]
    blocks, inside = (force(axis) for axis in axes)
    assert force(part) is inside
    assert [atom.size for atom in atoms(blocks)] == [2, 1]  # the one that was picked, and the others


def test_pinning_an_undecided_view_pins_its_source():
    source = Atom(6)
    pin(divide(source, [3, 2])[1], "because")
    assert source.reason == "because"


def test_an_undecided_view_has_no_runs():
    with pytest.raises(Mismatch):
        runs(divide(Atom(6), [3, 2])[0])


def test_what_a_view_cannot_divide_is_a_mismatch():
    axis = Product((Atom(3), Atom(4)))
    with pytest.raises(Mismatch):
        divide(axis, [2, 6])
    tail = Concat((Atom(3), Atom(4)))
    blocks, _ = divide(tail, [7, 1])
    assert resolve(blocks) is resolve(tail) or blocks.size == 7


def test_insides_vary_with_blocks_where_each_stands_with_one_block():
    heads, inside, stream = Atom(3), Atom(4), Atom(5)
    varies = fibres([[Product((heads, inside)), stream], [heads, inside], [heads], [stream]])
    assert varies[inside] == {heads}
    assert varies[heads] == set()
    assert varies[stream] == set()


@pytest.mark.parametrize("space", ["alone", "with two blocks", "with some blocks"])
def test_insides_do_not_vary_with_blocks_they_stand_without(space):
    heads, inside = Atom(3), Atom(4)
    other = {
        "alone": [inside],
        "with two blocks": [heads, heads, inside],
        "with some blocks": [Concat((heads, Atom(2))), inside],
    }[space]
    assert fibres([[heads, inside], other])[inside] == set()


def test_spaces_are_read_as_they_stand_at_the_end():
    """Labels that become one after a space was recorded count as one."""
    first, second, inside = Atom(3), Atom(3), Atom(4)
    spaces = [[first, inside], [first, second, inside]]
    assert fibres(spaces)[inside] == {first}
    unify(first, second)
    assert fibres(spaces)[inside] == set()


def test_an_undecided_view_in_a_space_is_its_source():
    source, other = Atom(6), Atom(5)
    blocks, inside = divide(source, [3, 2])
    assert fibres([[blocks, other, inside]])[other] == {source}
    left, right = split(source, 2)
    assert fibres([[blocks, other, inside]])[resolve(left)] == {other}
    assert resolve(right) not in fibres([[blocks, other, inside]])[other]
