"""Load ``torch.export`` programs (.pt2) without giving them a chance to run code.

An archive can carry pickles (sample inputs, custom objects, unusual weights), expressions that the loader evaluates
with sympy, guards that become Python code, and operator names that are looked up by attribute. Everything is checked
before it is loaded.
"""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from fastmatch.errors import CheckpointError

_OPERATOR = re.compile(r"torch\.ops(\.\w+)+|_operator\.\w+|torch\.sym_\w+|torch\._sym_\w+|math\.\w+")
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


def load_program(path: Path) -> ExportedProgram:
    """Load a .pt2 file.

    Raises
    ------
    CheckpointError
        The file is truncated, not a program, of an old format, or holds anything that could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is truncated or not a torch.export program; save it again") from error
    try:
        with _weights_only():
            return torch.export.load(path)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"torch.export cannot load {path} ({reason}); export it again with this version of torch"
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    names = [name.partition("/")[2] for name in archive.namelist()]
    if not any(re.fullmatch(r"models/[^/]+\.json", name) for name in names):
        raise CheckpointError(
            f"{path} is not a torch.export program of a supported format; save it with torch.export.save"
        )
    for member, name in zip(archive.namelist(), names, strict=True):
        if name.startswith(("models/", "data/weights/", "data/constants/")) and name.endswith(".json"):
            _check_json(path, _json(path, archive.read(member)))
        elif name.startswith("data/sample_inputs/") or (name.endswith((".pt", ".pth", ".pkl", ".pickle"))):
            _check_pickle(path, name, archive.read(member))
        elif name.startswith("data/constants/") and not name.startswith("data/constants/tensor_"):
            raise _refusal(path, f"the object {name}")
        elif name.startswith("data/aotinductor/"):
            raise _refusal(path, f"the compiled library {name}")


def _refusal(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} holds code ({what}), which fastmatch never runs; export the network without it")


def _json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise CheckpointError(f"{path} holds malformed JSON; export the program again") from error


def _check_pickle(path: Path, name: str, data: bytes) -> None:
    try:
        torch.load(io.BytesIO(data), weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, name) from error
    except (RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged at {name}; export it again") from error


def _check_json(path: Path, value: Any, key: str = "") -> None:
    """Check every string that the loader would evaluate, wherever it stands."""
    if key == "expr_str" and not _is_arithmetic(value):
        raise _refusal(path, f"expression {value!r:.60}")
    if key == "guards_code" and value:
        raise _refusal(path, "guards")
    if key == "use_pickle" and value:
        raise _refusal(path, "pickled weights or constants")
    if key == "nodes":
        for node in value:
            if (
                not isinstance(node, dict)
                or not _OPERATOR.fullmatch(str(node.get("target")))
                or "__" in str(node["target"])
            ):
                raise _refusal(path, f"operator {node.get('target') if isinstance(node, dict) else node!r:.60}")
    if isinstance(value, dict):
        for name, child in value.items():
            _check_json(path, child, name)
    elif isinstance(value, list):
        for child in value:
            _check_json(path, child)


def _is_arithmetic(text: Any) -> bool:
    """True for sums and products of symbols, and the functions torch prints; strings only as names of symbols."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, TypeError, RecursionError):
        return False
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    strings = [node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return (
        all(isinstance(node, _SYNTAX) for node in nodes)
        and all(isinstance(call.func, ast.Name) and _FUNCTION.fullmatch(call.func.id) for call in calls)
        and all(re.fullmatch(r"[A-Za-z]\w*", node.id) for node in nodes if isinstance(node, ast.Name))
        and all(re.fullmatch(r"[A-Za-z]\w*", str(node.value)) for node in strings)
    )


@contextmanager
def _weights_only() -> Iterator[None]:
    """Make every ``torch.load`` inside the loader refuse code, whatever it asks for."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
