"""Matching: from two state dicts to a permutation."""

from fastmatch.matching.activations import match_activations
from fastmatch.matching.match import GroupMatch, Match
from fastmatch.matching.weights import match_weights

__all__ = ["GroupMatch", "Match", "match_activations", "match_weights"]
