"""The command line, run inside the tests."""

import pytest

from fastmatch.cli import main

MODEL = "mlp(64, 16, 10)"  # Of the fixture ``folder``.
FILES = ["a.pt", "b.pt", "c.pt"]


def run(monkeypatch, capsys, *arguments):
    """Run the command line in this process and return what it printed."""
    monkeypatch.setattr("sys.argv", ["fastmatch", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert stop.value.code == 0, captured.err
    assert captured.err == ""
    return captured.out


def fails(monkeypatch, capsys, *arguments):
    """Run a command line that must be refused with exit code 2, and return its one line."""
    monkeypatch.setattr("sys.argv", ["fastmatch", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    assert error.count("\n") == 1, error
    return error
