"""The README's Python example runs, and its commands exist."""

import re
from pathlib import Path

import pytest

from fastmatch import analysis, training
from fastmatch.cli import cli

README = Path(__file__).resolve().parent.parent / "README.md"


def test_the_python_example_runs_and_alignment_lowers_the_barrier(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    before, after = (float(number) for number in capsys.readouterr().out.split(" -> "))
    assert after < before


def test_every_command_has_a_row_and_every_row_a_command():
    rows = set(re.findall(r"^\| `fastmatch ([\w-]+)", README.read_text(), re.MULTILINE))
    assert rows == set(cli.commands)


@pytest.mark.parametrize("picture", re.findall(r"!\[.*?\]\((.*?)\)", README.read_text()))
def test_pictures_are_there(picture):
    assert (README.parent / picture).read_bytes().startswith(b"\x89PNG")


def test_functions_named_in_the_documents_are_public():
    rooms = {"analysis": analysis, "training": training}
    text = (README.parent / "docs" / "analysis.md").read_text()
    names = re.findall(r"`(analysis|training)\.(\w+)`", text)
    assert len(names) > 10
    for room, name in names:
        assert name in rooms[room].__all__, name
