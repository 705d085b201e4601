"""From a network to its permutation groups."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fastmatch.errors import OptionError, SymmetryError
from fastmatch.symmetry.extract import extract
from fastmatch.symmetry.graph import Graph, home_of
from fastmatch.symmetry.spec import Group, PermutationSpec
from fastmatch.symmetry.taps import Tap, find_taps
from fastmatch.symmetry.tracer import Method, trace_graph


def trace(module: nn.Module, inputs: Sequence[Tensor], *, method: Method = "export") -> PermutationSpec:
    """Derive the permutation symmetries of ``module`` from its data flow.

    Every axis of every tensor in the network's graph gets a label, operations tie labels together, and what an
    operation could change is pinned with a reason. Parameter names play no part.

    Parameters
    ----------
    module
        Any module. Its mode and weights are left as they are.
    inputs
        Example inputs, batch axis first, at least two examples.
    method
        ``"export"``: the graph of ``torch.export``. ``"run"``: the operations that one run on ``inputs`` performs, for
        networks that cannot be exported. A branch that depends on data is followed as taken; groups inside operations
        that run as one (recurrent layers) are pinned.

    Returns
    -------
    PermutationSpec
        Groups, pinned axes, and the layout of every tensor of ``module.state_dict()``.

    Raises
    ------
    SymmetryError
        ``torch.export`` cannot follow the network, or it does not run on ``inputs``.
    OptionError
        ``method`` is unknown.
    """
    if method not in ("export", "run"):
        raise OptionError(f"tracing method {method!r} is unknown; choose export or run")
    return extract(trace_graph(module, inputs, method)).spec


def _axes(group: Group) -> tuple[tuple[str, ...], list[str]]:
    return group.base, [str(place) for place in group.occurrences]


def observe(spec: PermutationSpec, module: nn.Module, inputs: Sequence[Tensor]) -> tuple[dict[str, Tap], Graph]:
    """Where each group of a traced spec can be observed, on the values of a graph of the network.

    The network is traced where its weights are, and runs where ``inputs`` are.

    Raises
    ------
    SymmetryError
        The network cannot be exported, or its groups are not those of ``spec``.
    """
    device = inputs[0].device
    home = home_of(module, device)
    tracer = trace_graph(module, [tensor.to(home) for tensor in inputs])
    extraction = extract(tracer)
    traced = {group.name: _axes(group) for group in extraction.spec.groups}
    if any(traced.get(group.name) != _axes(group) for group in spec.groups):
        raise SymmetryError(
            "activations are observed on the groups that tracing finds, and the spec given has others; use --freeze to "
            "keep groups in order, or --method weight"
        )
    taps = find_taps(tracer, extraction)
    return taps, tracer.graph if device == home else tracer.graph.to(device)
