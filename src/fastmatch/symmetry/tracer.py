"""Carry axis labels through a network's graph and read the permutation groups off its parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec

from fastmatch.symmetry import graph
from fastmatch.symmetry.labels import Atom, Axis, Mismatch, Run, atoms, pin, runs, unify
from fastmatch.symmetry.rules import rule_for
from fastmatch.symmetry.spec import Box, Factor, PermutationSpec, Pin, TensorLayout


@dataclass(frozen=True)
class Tap:
    """An intermediate value on which a group can be observed: graph node, axis, box and factor of the group."""

    node: str
    axis: int
    box: Box
    factor: int


class Tracer:
    """Labels of one graph, which rules tie with :func:`labels.unify`."""

    def __init__(self, program: ExportedProgram, module: nn.Module) -> None:
        self.program = program
        self.labels: dict[fx.Node, list[Axis]] = {}
        self.state: dict[str, list[Axis]] = {}
        self.buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}
        self._module_state = module.state_dict(keep_vars=True)
        self._first_user: dict[str, int] = {}

    def run(self) -> None:
        """Visit every node once, in order."""
        for node, spec in graph.input_specs(self.program):
            self._label_input(node, spec)
        self._tie_shared_tensors()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self._label_call(node)
            elif node.op == "output":
                self._pin_all(node, "output of the network")
        for name, axes in self.state.items():
            if name not in self._first_user:
                for axis in axes:
                    pin(axis, "not used by the network")

    def _label_input(self, node: fx.Node, spec: InputSpec) -> None:
        if not _has_tensor(node.meta.get("val")):
            return
        if graph.is_state(spec):
            name = str(spec.target)
            axes: list[Axis] = [Atom(size) for size in graph.shape_of(node)]
            self.state[name] = axes
            if node.users:
                self._first_user[name] = min(self._position(user) for user in node.users)
        else:
            reason = "input of the network" if spec.kind == InputKind.USER_INPUT else "constant of the network"
            axes = [Atom(size, reason) for size in graph.shape_of(node)]
        self.labels[node] = axes

    def _position(self, node: fx.Node) -> int:
        if not hasattr(self, "_order"):
            self._order = {node: place for place, node in enumerate(self.program.graph.nodes)}
        return self._order[node]

    def _tie_shared_tensors(self) -> None:
        """Give names that share one tensor one label, and label those that the graph left out."""
        owners: dict[tuple[int, tuple[int, ...]], str] = {}
        for name, tensor in self._module_state.items():
            key = (tensor.data_ptr(), tuple(tensor.shape))
            owner = owners.setdefault(key, name) if tensor.numel() else name
            axes = self.state.setdefault(name, [Atom(size) for size in tensor.shape])
            if owner != name:
                for axis, other in zip(axes, self.state[owner], strict=True):
                    unify(axis, other)
                first = min(self._first_user.get(key, 1 << 60) for key in (owner, name))
                if first < 1 << 60:
                    self._first_user[owner] = self._first_user[name] = first

    def _label_call(self, node: fx.Node) -> None:
        value = node.meta.get("val")
        if not _has_tensor(value):
            return
        rule = rule_for(node.target)
        place = _place(node)
        if rule is None:
            self._give_up(node, f"no rule for {node.target} at {place}")
            return
        try:
            self.labels[node] = rule(self.labels, node)
        except (Mismatch, LookupError, TypeError, ValueError, AttributeError) as reason:
            # A form of the operation that its rule did not foresee is pinned like one without a rule.
            self._give_up(node, f"{node.target} at {place}: {reason}")
            return
        if _uses_secondary_output(node):
            self._pin_all(node, f"secondary output of {node.target} at {place}")

    def _give_up(self, node: fx.Node, reason: str) -> None:
        self._pin_all(node, reason)
        self.labels[node] = [Atom(size, reason) for size in graph.shape_of(node)]

    def _pin_all(self, node: fx.Node, reason: str) -> None:
        for argument in (*node.all_input_nodes, node):
            for axis in self.labels.get(argument, ()):
                pin(axis, reason)

    def spec(self) -> PermutationSpec:
        """Groups are the unpinned atoms that parameters or buffers carry, named after where they are first used."""
        names = self._group_names()
        tensors = {
            name: TensorLayout(
                tuple(axis.size for axis in self.state[name]),
                tuple(tuple(_box(run, names) for run in runs(axis)) for axis in self.state[name]),
                name in self.buffers,
            )
            for name in self._module_state
        }
        pinned = [
            Pin(f"{name}[{place}]", atom.reason)
            for name in self._module_state
            for place, axis in enumerate(self.state[name])
            for atom in dict.fromkeys(atoms(axis))
            if atom.reason is not None and atom.size > 1
        ]
        return PermutationSpec(tensors, tuple(pinned))

    def _group_names(self) -> dict[Atom, str]:
        names: dict[Atom, str] = {}
        far = len(self._module_state) + len(self.program.graph.nodes)
        for name in sorted(self._module_state, key=lambda name: self._first_user.get(name, far)):
            for axis in self.state[name]:
                for atom in atoms(axis):
                    if atom.reason is None and atom.size > 1 and atom not in names:
                        names[atom] = _unused(name.rpartition(".")[0] or name, names)
        return names

    def taps(self, spec: PermutationSpec) -> dict[str, Tap]:
        """Where to observe each group: the last elementwise result that carries it."""
        found: dict[str, Tap] = {}
        owner = {atom: group for group, atom in self._atoms(spec).items()}
        elementwise: set[str] = set()
        dependent = self._dependent_on_inputs()
        for node, axes in self.labels.items():
            if node not in dependent:
                continue
            strong = isinstance(node.target, torch._ops.OpOverload) and torch.Tag.pointwise in node.target.tags
            for group, tap in _observed(node, axes, owner):
                if strong or group not in elementwise:
                    found[group] = tap
                    elementwise |= {group} if strong else set()
        return found

    def _dependent_on_inputs(self) -> set[fx.Node]:
        """Nodes that see the data; the others are functions of the weights alone."""
        seen = {node for node, spec in graph.input_specs(self.program) if spec.kind == InputKind.USER_INPUT}
        result: set[fx.Node] = set()
        for node in self.program.graph.nodes:
            if node.op == "call_function" and any(
                source in seen or source in result for source in node.all_input_nodes
            ):
                result.add(node)
        return result

    def _atoms(self, spec: PermutationSpec) -> dict[str, Atom]:
        result = {}
        for group in spec.groups:
            place = group.occurrences[0]
            for run in runs(self.state[place.tensor][place.axis]):
                if run.offset == place.box.offset and place.factor < len(run.factors):
                    result[group.name] = run.factors[place.factor][0]
        return result


def _has_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) or (
        isinstance(value, list | tuple) and any(isinstance(item, torch.Tensor) for item in value)
    )


def _uses_secondary_output(node: fx.Node) -> bool:
    return not isinstance(node.meta["val"], torch.Tensor) and any(user.args[1] != 0 for user in node.users)


def _place(node: fx.Node) -> str:
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return repr(stack[-1]) if stack and stack[-1] else f"node {node.name!r}"


def _box(run: Run, names: dict[Atom, str]) -> Box:
    return Box(run.offset, tuple(Factor(names.get(atom), atom.size, stride) for atom, stride in run.factors))


def _unused(name: str, names: dict[Atom, str]) -> str:
    taken, candidate, count = set(names.values()), name, 2
    while candidate in taken:
        candidate, count = f"{name}#{count}", count + 1
    return candidate


def _observed(node: fx.Node, axes: Sequence[Axis], owner: dict[Atom, str]) -> list[tuple[str, Tap]]:
    names = {atom: owner[atom] for axis in axes for atom in atoms(axis) if atom in owner}
    return [
        (names[atom], Tap(node.name, place, _box(run, names), index))
        for place, axis in enumerate(axes)
        for run in runs(axis)
        for index, (atom, _) in enumerate(run.factors)
        if atom in names
    ]


def trace_graph(module: nn.Module, inputs: Sequence[Tensor]) -> Tracer:
    """Export ``module``, label its graph, and return the labels."""
    tracer = Tracer(graph.export_graph(module, inputs), module)
    tracer.run()
    return tracer


def trace(module: nn.Module, inputs: Sequence[Tensor]) -> PermutationSpec:
    """Derive the permutation symmetries of ``module`` from its data flow.

    The module is exported with ``torch.export``; every axis of every tensor in the graph gets a label, operations tie
    labels together, and what an operation could change is pinned with a reason. Parameter names play no part.

    Parameters
    ----------
    module
        Any module that ``torch.export`` follows. Its mode and weights are left as they are.
    inputs
        Example inputs, batch axis first, at least two examples.

    Returns
    -------
    PermutationSpec
        Groups, pinned axes, and the layout of every tensor of ``module.state_dict()``.

    Raises
    ------
    SymmetryError
        ``torch.export`` cannot follow the network.
    """
    return trace_graph(module, inputs).spec()
