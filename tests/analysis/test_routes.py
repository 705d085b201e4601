"""Alignment through other networks: exact copies lead back to where they began."""

import json

import pytest

from fastmatch import Permutation, match_weights
from fastmatch.analysis import compose_route, routes
from fastmatch.errors import OptionError
from tests.analysis.trained import data, module, run, spec

COUNT = 4


@pytest.fixture
def some():
    return data().take(80)


def copies():
    """Copies of one network with their units in other orders, and what lines each up with each other."""
    moves = [Permutation.random(spec(), seed) for seed in range(COUNT)]
    states = [move.apply(run(0)[24]) for move in moves]
    pairs = [(i, j) for i in range(COUNT) for j in range(i)]
    return states, {(i, j): moves[j].invert().compose(moves[i]) for i, j in pairs}


def test_routes_between_copies_are_the_direct_way_and_round_trips_the_identity(some):
    states, permutations = copies()
    chosen = [(0, 1, 2), (3, 0, 1), (0, 1, 2, 3), (0, 1, 2, 0), (2, 3, 1, 0, 2)]
    for result in routes(module(), states, permutations, some, chosen, alphas=3):
        assert result.fixed_fraction == 1.0
        assert result.fixed_points == {group.name: group.size for group in spec().groups}
        for name in ("indirect", "direct"):
            assert result.heights[name]["test"]["loss"].linear == pytest.approx(0, abs=1e-6)
        ends_differ = result.route[0] != result.route[-1]
        assert (result.heights["unaligned"]["test"]["loss"].linear > 0.1) == ends_differ
        json.dumps(result.to_json())


def test_a_route_moves_the_last_network_through_those_between():
    states, permutations = copies()
    permutations[1, 0] = permutations[1, 0].compose(Permutation.random(spec(), 9))  # not what lines 0 up with 1
    found = compose_route(permutations, (0, 1, 2)).apply(states[2])
    by_hand = permutations[1, 0].invert().apply(permutations[2, 1].invert().apply(states[2]))
    for name, tensor in by_hand.items():
        assert tensor.equal(found[name])


def test_different_networks_are_not_transitive_and_matches_say_so(some):
    states = [run(seed)[24] for seed in range(3)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    permutations = {(i, j): match_weights(spec(), states[i], states[j]).permutation for i, j in pairs}
    (through, around) = routes(module(), states, permutations, some, [(0, 1, 2), (0, 1, 2, 0)], alphas=5)
    assert through.fixed_fraction < 1
    assert through.indirect == permutations[1, 2].compose(permutations[0, 1])
    assert around.direct == Permutation.identity(spec())
    # Going round and going through compare the same two permutations, once each way.
    assert around.fixed_fraction == through.fixed_fraction


def test_routes_that_lead_nowhere_are_refused(some):
    states, permutations = copies()
    for route in [(0, 1), (0, 1, COUNT)]:
        with pytest.raises(OptionError, match="does not lead through three or more of 4 networks"):
            routes(module(), states, permutations, some, [route])
    del permutations[2, 1]
    with pytest.raises(OptionError, match="no permutation between networks 1 and 2"):
        routes(module(), states, permutations, some, [(0, 1, 2)])
    with pytest.raises(OptionError, match="two networks at least"):
        compose_route(permutations, (0,))


def test_a_route_asked_for_twice_is_answered_twice(some):
    states, permutations = copies()
    found = routes(module(), states, permutations, some, [[0, 1, 2], (0, 1, 2), (2, 1, 0)], alphas=2)
    assert [result.route for result in found] == [(0, 1, 2), (0, 1, 2), (2, 1, 0)]
