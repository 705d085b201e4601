"""fastmatch: find the permutations that align networks, certify them, and measure what they buy."""

from fastmatch import analysis, assignment, kernels, networks
from fastmatch.checkpoints import Stream
from fastmatch.data import DataSet, Split, check_fit, load_data
from fastmatch.data import is_builtin as is_builtin_data
from fastmatch.errors import AlignmentError, CheckpointError, DataError, FastmatchError
from fastmatch.interpolation import (
    Barrier,
    BarrierMaxima,
    Barriers,
    Evaluation,
    Triangle,
    barrier,
    barrier_maxima,
    barriers,
    evaluate,
    triangle,
)
from fastmatch.loading import Checkpoint, load
from fastmatch.matching import (
    METHODS,
    JointMatch,
    Match,
    Pair,
    PairwiseMatch,
    check_options,
    match,
    match_activations,
    match_frank_wolfe,
    match_functional,
    match_many,
    match_pairs,
    match_sinkhorn,
    match_weights,
)
from fastmatch.permutation import Permutation
from fastmatch.symmetry import Certificate, Group, PermutationSpec, certify, load_spec, trace

__all__ = [
    "METHODS",
    "AlignmentError",
    "Barrier",
    "BarrierMaxima",
    "Barriers",
    "Certificate",
    "Checkpoint",
    "CheckpointError",
    "DataError",
    "DataSet",
    "Evaluation",
    "FastmatchError",
    "Group",
    "JointMatch",
    "Match",
    "Pair",
    "PairwiseMatch",
    "Permutation",
    "PermutationSpec",
    "Split",
    "Stream",
    "Triangle",
    "analysis",
    "assignment",
    "barrier",
    "barrier_maxima",
    "barriers",
    "certify",
    "check_fit",
    "check_options",
    "evaluate",
    "is_builtin_data",
    "kernels",
    "load",
    "load_data",
    "load_spec",
    "match",
    "match_activations",
    "match_frank_wolfe",
    "match_functional",
    "match_many",
    "match_pairs",
    "match_sinkhorn",
    "match_weights",
    "networks",
    "trace",
    "triangle",
]
