"""Carry axis labels through a network's graph."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from fastmatch.symmetry.algebra import unify
from fastmatch.symmetry.graph import CHANGED, Graph, Source, export_graph, shape_of, tied_names
from fastmatch.symmetry.labels import Atom, Axis, Mismatch, pin
from fastmatch.symmetry.rules import Axes, Labels, argument, rule_for

Method = Literal["export", "run"]

_LARGEST_CONSTANT = 1 << 24
_FILLS = {"full_like": 1, "new_full": 2, "fill": 1}  # Position of the value.
_FILLS_OF_ONE_KIND = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1}
# Memory that a network writes before it reads: any value will do.
_FILLS_OF_ONE_KIND |= dict.fromkeys(("empty", "empty_like", "new_empty", "empty_permuted", "empty_strided"), 0)
_SCALARS = ("aten.sym_", "aten._assert", "aten._local_scalar_dense", "aten.item")
# Position of the first operand behind the subgraph, for operations that only run it under another setting.
_WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


class _NoRule(Exception):
    """An operation that nobody has thought about."""


class Tracer:
    """Labels of one graph, which rules tie to each other.

    Attributes
    ----------
    state
        Labels of every entry of the state dict.
    first_use
        Position in the graph of the first operation on each of them.
    """

    def __init__(self, graph: Graph, module: nn.Module) -> None:
        self.graph = graph
        self.labels = Labels()
        self.state: dict[str, Axes] = {}
        self.first_use: dict[str, int] = {}
        self.module_state = {
            name: value for name, value in module.state_dict(keep_vars=True).items() if isinstance(value, Tensor)
        }
        self.buffers = {name for name, _ in module.named_buffers(remove_duplicate=False)}

    def run(self) -> None:
        """Visit every node once, in order."""
        order = {node: place for place, node in enumerate(self.graph.module.graph.nodes)}
        for node, source in self.graph.placeholders():
            self._label_source(node, source)
            if source.kind == "state" and node.users:
                self.first_use[source.name] = min(order[user] for user in node.users)
        self._tie_shared_tensors()
        for axes in self._run_region(self.graph.module):
            _pin_axes(axes, "output of the network")
        for name, axes in self.state.items():
            if name not in self.first_use:
                _pin_axes(axes, "not used by the network")
            elif not (self.module_state[name].is_floating_point() or self.module_state[name].is_complex()):
                _pin_axes(axes, "a tensor of integers")
            self.labels.joint(*axes)

    def _label_source(self, node: fx.Node, source: Source) -> None:
        if not _has_tensor(node.meta.get("val")):
            return
        if CHANGED in node.meta:
            self.labels[node] = [Atom(size, CHANGED) for size in shape_of(node)]
            if source.kind == "state":
                self.state[source.name] = self.labels.lazy(node)
        elif source.kind == "constant":
            self.labels[node] = [Atom(size, "constant of the network") for size in shape_of(node)]
            if isinstance(source.value, Tensor):
                self.labels.constants[node] = source.value.cpu()
        else:
            reason = "input of the network" if source.kind == "input" else None
            self.labels[node] = [Atom(size, reason) for size in shape_of(node)]
            if source.kind == "state":
                self.state[source.name] = self.labels.lazy(node)

    def _tie_shared_tensors(self) -> None:
        """Give names that share one tensor one label, and label those that the graph left out."""
        for name, tensor in self.module_state.items():
            self.state.setdefault(name, [Atom(size) for size in tensor.shape])
        groups = {names[0]: names for names in tied_names(self.module_state).values()}
        for owner, *others in groups.values():
            for name in others:
                for axis, other in zip(self.state[name], self.state[owner], strict=True):
                    unify(axis, other)
            uses = [self.first_use[name] for name in (owner, *others) if name in self.first_use]
            self.first_use |= dict.fromkeys((owner, *others), min(uses)) if uses else {}
        for first, second in _overlapping({name: self.module_state[name] for name in groups}):
            _pin_axes([*self.state[first], *self.state[second]], f"{first} and {second} overlap in memory")

    def _run_region(self, region: fx.GraphModule) -> list[Axes]:
        """Label the operations of a graph whose placeholders have labels; return those of its outputs."""
        for node in region.graph.nodes:
            if node.op == "call_function":
                self._label_call(node)
        (output,) = (node for node in region.graph.nodes if node.op == "output")
        values = [value for value in tree_leaves(output.args[0]) if isinstance(value, fx.Node)]
        return [self.labels.lazy(value) for value in values if value in self.labels]

    def _label_call(self, node: fx.Node) -> None:
        if not _has_tensor(node.meta.get("val")):
            if not str(node.target).startswith(_SCALARS):
                self._pin_all(node, f"{node.target} at {_place(node)}")
            return
        if CHANGED in node.meta:
            self._give_up(node, CHANGED)
            return
        try:
            self._apply_rule(node)
        except _NoRule:
            self._give_up(node, f"no rule for {node.target} at {_place(node)}")
            return
        except (Mismatch, LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as reason:
            # A form of the operation that its rule did not foresee is pinned like one without a rule.
            self._give_up(node, f"{node.target} at {_place(node)}: {reason}")
            return
        used: list[Any] = [user.args[1] for user in node.users if user.target is operator.getitem and user.users]
        if any(place >= self.labels.outputs(node) for place in used):
            self._pin_all(node, f"secondary output of {node.target} at {_place(node)}")

    def _apply_rule(self, node: fx.Node) -> None:
        constant = self._constant(node)
        if constant is not None:
            self.labels.constants[node] = constant
            self.labels[node] = [Atom(size) for size in constant.shape]
        elif isinstance(node.target, torch._ops.HigherOrderOperator):
            self.labels[node] = self._higher_order(node)
        elif (rule := rule_for(node.target)) is not None:
            outputs = rule(self.labels, node)
            if [axis.size for axis in (outputs[0] if isinstance(outputs, tuple) else outputs)] != shape_of(node):
                raise Mismatch("a form that its rule does not know")
            self.labels[node] = outputs
        else:
            raise _NoRule

    def _constant(self, node: fx.Node) -> Tensor | None:
        """Value of an operation that depends on neither weights nor inputs, if it is cheap to have."""
        value = node.meta["val"]
        if not isinstance(node.target, torch._ops.OpOverload) or not isinstance(value, Tensor):
            return None
        tensors = [source for source in node.all_input_nodes if _has_tensor(source.meta.get("val"))]
        random = torch.Tag.nondeterministic_seeded in node.target.tags
        if random or "empty" in str(node.target) or any(source not in self.labels.constants for source in tensors):
            return _filled(node)
        if sum(self.labels.constants[source].numel() for source in tensors) + value.numel() > _LARGEST_CONSTANT:
            return None
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
        kwargs = {**kwargs, "device": torch.device("cpu")} if "device" in kwargs else kwargs
        try:
            return node.target(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None

    def _value(self, node: fx.Node) -> Any:
        if node in self.labels.constants:
            return self.labels.constants[node]
        size = node.meta["val"]
        return size if isinstance(size, int | float | bool) else size.node.hint

    def _higher_order(self, node: fx.Node) -> Axes | tuple[Axes, ...]:
        """Labels of the branches of a condition, which are alike, or of a wrapped subgraph."""
        name = node.target.name()  # type: ignore[union-attr]
        if name == "cond":
            _, true, false, operands = node.args
            first, second = (self._subgraph(branch, operands) for branch in (true, false))
            for axes, others in zip(first, second, strict=True):
                for axis, other in zip(axes, others, strict=True):
                    unify(axis, other)
        elif name in _WRAPPERS:
            place = _WRAPPERS[name]
            first = self._subgraph(node.args[place], node.args[place + 1 :])
        else:
            raise _NoRule
        return first[0] if isinstance(node.meta["val"], Tensor) else tuple(first)

    def _subgraph(self, reference: Any, operands: Any) -> list[Axes]:
        region = getattr(reference.graph.owning_module, reference.target)
        inner = [node for node in region.graph.nodes if node.op == "placeholder"]
        for placeholder, operand in zip(inner, operands, strict=True):
            if operand in self.labels:
                self.labels[placeholder] = self.labels.lazy(operand)
            if operand in self.labels.constants:
                self.labels.constants[placeholder] = self.labels.constants[operand]
        return self._run_region(region)

    def _give_up(self, node: fx.Node, reason: str) -> None:
        self._pin_all(node, reason)
        value = node.meta["val"]
        if isinstance(value, Tensor):
            self.labels[node] = [Atom(size, reason) for size in shape_of(node)]
        else:
            shapes = [item.shape if isinstance(item, Tensor) else () for item in value]
            self.labels[node] = tuple([Atom(_hint(size), reason) for size in shape] for shape in shapes)

    def _pin_all(self, node: fx.Node, reason: str) -> None:
        for source in (*node.all_input_nodes, node):
            if source in self.labels:
                for output in range(self.labels.outputs(source)):
                    _pin_axes(self.labels.lazy(source, output), reason)


def _filled(node: fx.Node) -> Tensor | None:
    """Value of an operation that takes from its input nothing but the shape."""
    name = str(node.target).split(".")[1]
    value = _FILLS_OF_ONE_KIND.get(name)
    if name in _FILLS:
        value = argument(node, _FILLS[name], "fill_value")
    if not isinstance(value, int | float):
        return None
    return torch.full((), value, dtype=node.meta["val"].dtype).expand(shape_of(node))


def _pin_axes(axes: Sequence[Axis], reason: str) -> None:
    for axis in axes:
        pin(axis, reason)


def _has_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value)
    )


def _hint(size: Any) -> int:
    return size if isinstance(size, int) else int(size.node.hint or 1)


def _place(node: fx.Node) -> str:
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return repr(stack[-1]) if stack and stack[-1] else f"node {node.name!r}"


def _overlapping(state: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Neighbouring pairs of tensors that share memory without being the same tensor."""
    extents = []
    for name, tensor in state.items():
        if tensor.data_ptr():
            last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
            extents.append((tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size(), name))
    extents.sort()
    result, reach = [], (0, "")
    for start, stop, name in extents:
        if start < reach[0]:
            result.append((reach[1], name))
        reach = max(reach, (stop, name))
    return result


def trace_graph(module: nn.Module, inputs: Sequence[Tensor], method: Method = "export") -> Tracer:
    """Take the graph of ``module``, label it, and return the labels."""
    if method == "run":
        from fastmatch.symmetry.record import record_graph

        tracer = Tracer(record_graph(module, inputs), module)
    else:
        tracer = Tracer(export_graph(module, inputs), module)
    tracer.run()
    return tracer
