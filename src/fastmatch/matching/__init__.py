"""Matching: from state dicts to permutations."""

from fastmatch.matching.activations import match_activations
from fastmatch.matching.annealing import anneal, match_annealing
from fastmatch.matching.exhaustive import match_exhaustive
from fastmatch.matching.frank_wolfe import match_frank_wolfe
from fastmatch.matching.functional import match_functional
from fastmatch.matching.match import GroupMatch, JointMatch, Match, Stop
from fastmatch.matching.methods import METHODS, Method, check_options, match
from fastmatch.matching.order import Reference
from fastmatch.matching.pair import Pair
from fastmatch.matching.pairwise import PairwiseMatch, match_pairs
from fastmatch.matching.sinkhorn import match_sinkhorn
from fastmatch.matching.straight_through import match_straight_through, match_straight_through_original
from fastmatch.matching.universe import ManyMethod, match_many
from fastmatch.matching.weights import match_weights

__all__ = [
    "METHODS",
    "GroupMatch",
    "JointMatch",
    "ManyMethod",
    "Match",
    "Method",
    "Pair",
    "PairwiseMatch",
    "Reference",
    "Stop",
    "anneal",
    "check_options",
    "match",
    "match_activations",
    "match_annealing",
    "match_exhaustive",
    "match_frank_wolfe",
    "match_functional",
    "match_many",
    "match_pairs",
    "match_sinkhorn",
    "match_straight_through",
    "match_straight_through_original",
    "match_weights",
]
