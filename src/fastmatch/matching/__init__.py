"""Matching: from state dicts to permutations."""

from fastmatch.matching.activations import match_activations
from fastmatch.matching.match import GroupMatch, JointMatch, Match, Stop
from fastmatch.matching.methods import METHODS, Method, check_options, match
from fastmatch.matching.pair import Pair
from fastmatch.matching.straight_through import match_straight_through, match_straight_through_original
from fastmatch.matching.weights import match_weights

__all__ = [
    "METHODS",
    "GroupMatch",
    "JointMatch",
    "Match",
    "Method",
    "Pair",
    "Stop",
    "check_options",
    "match",
    "match_activations",
    "match_straight_through",
    "match_straight_through_original",
    "match_weights",
]
