"""Which parameter axes share a permutation: the spec, the tracer, the rules, the certificate."""

from fastmatch.symmetry.certificate import Certificate, certify, certify_spec
from fastmatch.symmetry.graph import GraphRunner, call, eval_mode
from fastmatch.symmetry.spec import Box, Factor, Group, Occurrence, PermutationSpec, Pin, TensorLayout
from fastmatch.symmetry.tracer import Tap, trace, trace_graph

__all__ = [
    "Box",
    "Certificate",
    "Factor",
    "GraphRunner",
    "Group",
    "Occurrence",
    "PermutationSpec",
    "Pin",
    "Tap",
    "TensorLayout",
    "call",
    "certify",
    "certify_spec",
    "eval_mode",
    "trace",
    "trace_graph",
]
