"""The rooms call downwards only, heavy packages are imported where they belong, and the public names are all there."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import fastmatch

ROOT = Path(fastmatch.__file__).parent
# From the ground up; a room may import what stands before its own level, and its own.
LEVELS = [
    {"errors"},
    {"files", "strings", "devices", "kernels", "assignment"},
    {"symmetry"},
    {"permutation"},
    {"checkpoints", "networks", "data"},
    {"loading"},
    {"interpolation"},
    {"matching"},
    {"analysis", "training", "plots"},
    {"cli"},
]
HOME = {
    "click": {"cli"},
    "rich": {"cli"},
    "matplotlib": {"plots"},
    "scipy": {"assignment", "matching", "analysis"},
    "lapjv": {"assignment"},
}


def _modules():
    return sorted(ROOT.rglob("*.py"))


def _room(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def _imports(path):
    """Modules imported anywhere in a file, as dotted names; imports for type checking do not count."""
    tree = ast.parse(path.read_text())
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "fastmatch":
            yield from (f"fastmatch.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", _modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards(path):
    room = _room(path)
    if room == "__init__":
        return
    level = next(number for number, rooms in enumerate(LEVELS) if room in rooms)
    allowed = set().union(*LEVELS[:level]) | {room}
    public = set(fastmatch.__all__)
    for name in _imports(path):
        package, _, rest = name.partition(".")
        if package == "fastmatch" and rest:
            target = rest.partition(".")[0]
            assert target in allowed or (room == "cli" and target in public), f"{room} imports {name}"
        elif package == "fastmatch":
            assert room == "cli", f"{room} imports the whole package"
        assert package not in HOME or room in HOME[package], f"{room} imports {package}"


def test_siblings_of_one_level_do_not_lean_on_each_other():
    for lower, upper in (
        ("kernels", "assignment"),
        ("checkpoints", "networks"),
        ("checkpoints", "data"),
        ("plots", "training"),
        ("analysis", "training"),
        ("analysis", "plots"),
    ):
        for path in _modules():
            for first, second in ((lower, upper), (upper, lower)):
                if _room(path) == first:
                    assert not any(name.startswith(f"fastmatch.{second}") for name in _imports(path)), path


def _loaded(code):
    script = f"import sys, json, torch; {code}; print(json.dumps(sorted(sys.modules)))"
    return set(
        json.loads(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)
    )


def test_importing_the_package_loads_no_heavy_extras():
    loaded = _loaded("import fastmatch")
    for name in ("matplotlib", "click", "rich", "sklearn", "triton", "numba", "lapjv"):
        assert name not in loaded - _loaded("pass"), name


def test_kernels_and_assignment_know_no_networks():
    for room in ("kernels", "assignment"):
        for path in _modules():
            if _room(path) == room:
                rooms = {name.split(".")[1] for name in _imports(path) if name.startswith("fastmatch.")}
                assert rooms <= {"errors", room}, path


def test_public_names_exist_and_are_documented():
    for name in fastmatch.__all__:
        assert getattr(fastmatch, name).__doc__, name


def test_only_the_command_line_names_code_to_run():
    """No eval, exec or unpickling anywhere, and torch.load only with weights_only=True."""
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "pickle.load", "pickle.loads"), path
            if name == "torch.load":
                assert "weights_only=True" in ast.unparse(node), path
