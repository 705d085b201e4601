"""Which parameter axes share a permutation: the spec, the tracer, the rules, the certificate."""

from fastmatch.symmetry.certificate import Certificate, certify, certify_spec, same_function
from fastmatch.symmetry.graph import (
    Graph,
    GraphRunner,
    call,
    eval_mode,
    export_at_home,
    export_graph,
    float_type,
    tied_names,
    wide,
)
from fastmatch.symmetry.layout import Bases, Box, Factor, Indices, Occurrence, TensorLayout
from fastmatch.symmetry.notation import load_spec
from fastmatch.symmetry.spec import Group, PermutationSpec, Pin
from fastmatch.symmetry.taps import Tap
from fastmatch.symmetry.tracing import observe, trace

__all__ = [
    "Bases",
    "Box",
    "Certificate",
    "Factor",
    "Graph",
    "GraphRunner",
    "Group",
    "Indices",
    "Occurrence",
    "PermutationSpec",
    "Pin",
    "Tap",
    "TensorLayout",
    "call",
    "certify",
    "certify_spec",
    "eval_mode",
    "export_at_home",
    "export_graph",
    "float_type",
    "load_spec",
    "observe",
    "same_function",
    "tied_names",
    "trace",
    "wide",
]
