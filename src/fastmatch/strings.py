"""Model and data strings: read as data, never evaluated.

``mlp(784, 512, 10, norm=none)`` and ``digits`` are *calls*: a name with literal arguments. ``package.module:function``
and ``path/file.py:function`` name a *factory* of the user, with or without arguments behind it; only that runs code.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from fastmatch.errors import FastmatchError

Value = int | float | str | bool
Result = TypeVar("Result")

_FACTORY = re.compile(
    r"\s*(?P<source>.+?\.py|[A-Za-z_]\w*(?:\.\w+)*):(?P<call>[A-Za-z_]\w*\s*(?:\(.*\))?)\s*", re.DOTALL
)
_KINDS = {int: "an integer", float: "a number", str: "a word", bool: "true or false"}


@dataclass(frozen=True)
class Call:
    """A name with literal arguments."""

    name: str
    args: tuple[Value, ...]
    kwargs: dict[str, Value]


def parse_call(text: str, error: type[FastmatchError]) -> Call:
    """Read ``name`` or ``name(value, key=value)``.

    Values are integers, floats, ``true`` or ``false`` in any case, quoted strings, and bare words, which stand for
    themselves as strings.

    Raises
    ------
    error
        ``text`` is not of that form.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return Call(tree.id, (), {})
        if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
            raise ValueError("not a name with arguments")
        args = tuple(_value(node) for node in tree.args)
        kwargs = {_keyword(item): _value(item.value) for item in tree.keywords}
        if len(kwargs) < len(tree.keywords):
            raise ValueError("an argument is given twice")
        return Call(tree.func.id, args, kwargs)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as reason:
        raise error(
            f"cannot read {text!r}; write it as name or name(value, key=value), values being numbers or words"
        ) from reason


def _keyword(item: ast.keyword) -> str:
    if item.arg is None:
        raise ValueError("unpacking is not a value")
    return item.arg


def _value(node: ast.expr) -> Value:
    if isinstance(node, ast.Name):
        return {"true": True, "false": False}.get(node.id.lower(), node.id)
    value = ast.literal_eval(node)
    if not isinstance(value, Value):
        raise ValueError("not a number or a word")
    return value


def bind(call: Call, function: Callable[..., Any], error: type[FastmatchError]) -> inspect.BoundArguments:
    """Bind the arguments of ``call`` to the signature of ``function``, defaults filled in.

    Parameters annotated ``int``, ``float``, ``str`` or ``bool`` take only such values (``float`` takes integers too).

    Raises
    ------
    error
        An argument is missing, unknown, given twice or of another type than its annotation.
    """
    signature = inspect.signature(function, eval_str=True)
    try:
        bound = signature.bind(*call.args, **call.kwargs)
    except TypeError as reason:
        raise error(f"{call.name}: {reason}; write {_usage(call.name, signature)}") from reason
    for name, value in bound.arguments.items():
        parameter = signature.parameters[name]
        for item in value if parameter.kind is parameter.VAR_POSITIONAL else (value,):
            if parameter.annotation in _KINDS and not _fits(item, parameter.annotation):
                raise error(f"{call.name}: {name} is {item!r} but must be {_KINDS[parameter.annotation]}")
    bound.apply_defaults()
    return bound


def invoke(call: Call, function: Callable[..., Result], error: type[FastmatchError]) -> Result:
    """Call ``function`` with the arguments of ``call``, checked by :func:`bind`."""
    bound = bind(call, function, error)
    return function(*bound.args, **bound.kwargs)


def _fits(value: Value, kind: type) -> bool:
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def _usage(name: str, signature: inspect.Signature) -> str:
    plain = [item.replace(annotation=item.empty) for item in signature.parameters.values()]
    return name + str(signature.replace(parameters=plain, return_annotation=signature.empty)).replace("'", "")


def is_factory(text: str) -> bool:
    """Whether ``text`` names code of the user: ``package.module:function`` or ``path/file.py:function``."""
    return _FACTORY.fullmatch(text) is not None


def load_factory(text: str, error: type[FastmatchError]) -> Callable[[], Any]:
    """Import the factory that ``text`` names and bind its arguments to it.

    This runs the user's code, so it is only for strings that came from the command line or a caller, never for one
    that was read from a file.

    Returns
    -------
    callable
        Takes no argument; calls the factory, and turns what it raises into ``error``.

    Raises
    ------
    error
        ``text`` names no factory, the import fails, or there is no such function.
    """
    match = _FACTORY.fullmatch(text)
    if match is None:
        raise error(f"{text!r} names no factory; write package.module:function or path/file.py:function")
    source, call = match["source"], parse_call(match["call"], error)
    try:
        module = _import_file(Path(source)) if source.endswith(".py") else importlib.import_module(source)
    except Exception as reason:
        raise error(
            f"cannot import {source}: {_one_line(reason)}; mend it, install it, or write path/file.py:function"
        ) from reason
    function = getattr(module, call.name, None)
    if not callable(function):
        raise error(f"{source} has no function {call.name!r}; name one that it defines at its top level")

    def factory() -> Any:
        try:
            return function(*call.args, **call.kwargs)
        except Exception as reason:
            raise error(f"{text} failed: {_one_line(reason)}; mend the factory or its arguments") from reason

    return factory


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError("no such file")
    name = f"fastmatch_user_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles of the file look their module up by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _one_line(reason: Exception) -> str:
    return " ".join(f"{type(reason).__name__}: {reason}".split())
