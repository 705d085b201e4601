"""Screen the JSON of a ``torch.export`` archive: what remains cannot make its loader, or the loaded network, run code.

``torch.export.load`` trusts this JSON. It evaluates expressions with sympy, looks operators up by attribute, imports
the modules that tree descriptions name, and pastes guards and names into Python source that it executes. So every
string is refused unless the place it stands in says what it may be. See torch/_export/serde/serialize.py,
torch/export/_unlift.py, torch/utils/_pytree.py and torch/fx/graph.py.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

import torch

# Not needed to run a network, and free text: guards are executed, metadata ends up in generated source.
_DROPPED = {"metadata": {}, "guards_code": [], "treespec_namedtuple_fields": {}, "torch_version": ""}
_NAME = re.compile(r"[\w.]*", re.ASCII)
_IDENTIFIER = re.compile(r"([^\W\d]\w*)?", re.ASCII)
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)", re.ASCII)
_OTHER_OPERATOR = re.compile(
    r"_operator\.(getitem|eq|ne|lt|le|gt|ge|neg|pos|add|sub|mul|floordiv|truediv|mod|pow|and_|or_|lshift|rshift)|"
    r"math\.(trunc|floor|ceil|sqrt)|torch\.(sym_(not|int|float|ite|max|min|sqrt|sum)|_sym_sqrt)|"
    r"torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
)
_TREES = ("builtins.tuple", "builtins.list", "builtins.dict", None)
_FUNCTION = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Mod|Max|Min|Abs|FloorDiv|ModularIndexing|"
    "PythonMod|CleanDiv|CeilDiv|CeilToInt|FloorToInt|TruncToInt|TruncToFloat|RoundToInt|"
    "RoundDecimal|ToFloat|IntTrueDiv|FloatTrueDiv|FloatPow|PowByNatural|Where|Eq|Ne|Lt|Le|Gt|"
    "Ge|And|Or|Not|Identity|LShift|RShift|floor|ceiling"
)
_SYNTAX = (
    *(ast.Expression, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Call, ast.Name, ast.Constant, ast.keyword),
    *(ast.Load, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
)


class Unsafe(Exception):
    """Something in an archive that could run code; the message names it."""


def screen(document: bytes) -> Any:
    """Parse one JSON member, without what is not needed.

    Raises
    ------
    Unsafe
        A string could become code.
    ValueError
        The member is not JSON.
    """
    return _screened(json.loads(document))


def _screened(value: Any, key: str = "") -> Any:
    if key == "expr_str" and not isinstance(value, str):
        raise Unsafe("an expression that is no text")  # sympy evaluates the strings inside containers too
    if isinstance(value, dict):
        return {
            _name(name): _DROPPED[name] if name in _DROPPED else _screened(child, name) for name, child in value.items()
        }
    if isinstance(value, list):
        return [_screened(child, key) for child in value]
    return _CHECKS.get(key, _name)(value) if isinstance(value, str) else value


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise Unsafe(f"the name {text!r:.60}")
    return text


def _identifier(text: str) -> str:
    if not _IDENTIFIER.fullmatch(text):
        raise Unsafe(f"the name {text!r:.60}")
    return text


def _number(text: str) -> str:
    if text not in ("Infinity", "-Infinity", "NaN"):
        raise Unsafe(f"the number {text!r:.60}")
    return text


def _operator(text: str) -> str:
    aten = _ATEN.fullmatch(text)
    if not (_computes(*aten.groups()) if aten else _OTHER_OPERATOR.fullmatch(text)):
        raise Unsafe(f"the operator {text!r:.60}")
    return text


def _computes(name: str, overload: str) -> bool:
    """True for ATen operators that exist and only compute: ``from_file`` and ``save`` open the file they are told."""
    packet = getattr(torch.ops.aten, name, None)
    if not isinstance(packet, torch._ops.OpOverloadPacket) or overload not in packet.overloads():
        return False
    return all(argument.name != "filename" for argument in getattr(packet, overload)._schema.arguments)


def _tree(text: str) -> str:
    """A protocol number and the nested containers of inputs or outputs; other containers import what they name."""
    protocol, root = json.loads(text)
    nodes = [root]
    for node in nodes:
        context = json.loads(node["context"] or "null")
        if protocol != 1 or node["type"] not in _TREES or not all(isinstance(key, str) for key in context or ()):
            raise Unsafe(f"the container {node['type']!r:.60}")
        for key in context or ():
            _identifier(key)
        nodes += node["children_spec"]
    return text


def _expression(text: str) -> str:
    """Sums and products of symbols, and the functions torch prints; strings only as names of symbols."""
    nodes = list(ast.walk(ast.parse(text, mode="eval")))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    names += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    if not (
        all(isinstance(node, _SYNTAX) for node in nodes)
        and all(isinstance(call.func, ast.Name) and _FUNCTION.fullmatch(call.func.id) for call in calls)
        and all(re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) for name in names)
    ):
        raise Unsafe(f"the expression {text!r:.60}")
    return text


_CHECKS: dict[str, Callable[[str], str]] = {
    "expr_str": _expression,
    "target": _operator,
    "as_operator": _operator,
    "in_spec": _tree,
    "out_spec": _tree,
    "name": _identifier,
    "as_name": _identifier,
    "forward_arg_names": _identifier,
    "as_float": _number,
    "as_floats": _number,
    "as_string": str,
    "as_strings": str,
}
