"""``fastmatch compare-methods`` and the methods of ``align``."""

import json

import pytest

from fastmatch import METHODS, cli
from tests.cli.running import fails, run

TRAIN = "train", "mlp(64, 12, 10)", "--data", "digits", "--epochs", "5"


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("methods")
    for seed, name in enumerate("ab"):
        cli.cli.main([*TRAIN, "--seed", str(seed), "-o", str(folder / f"{name}.pt")], standalone_mode=False)
    return folder


@pytest.fixture
def folder(networks, monkeypatch, tmp_path):
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).symlink_to(networks / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_methods_are_compared_drawn_and_written(folder, monkeypatch, capsys):
    chosen = "--method", "activation", "--method", "weight"
    drawn = "--json", "m.json", "--plot", "m.png"
    out = run(monkeypatch, capsys, "compare-methods", "a.pt", "b.pt", *chosen, "--alphas", "5", *drawn)
    lines = [line.split()[0] for line in out.splitlines()]
    assert lines[1:5] == ["method", "unaligned", "activation", "weight"]
    result = json.loads((folder / "m.json").read_text())
    assert f"next: fastmatch align a.pt b.pt --method {result['best']} --limit 10000 --seed 0" in out
    assert list(result["methods"]) == ["activation", "weight"]
    assert (folder / "m.png").stat().st_size > 10_000


def test_a_method_may_be_written_with_a_hyphen(folder, monkeypatch, capsys):
    for name in METHODS:
        assert cli.options.MethodChoice(list(METHODS)).convert(name.replace("_", "-"), None, None) == name


def test_align_explains_its_choice(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "align", "a.pt", "b.pt", "--json", "align.json")
    result = json.loads((folder / "align.json").read_text())
    losses = result["midpoints"]
    kept = min(losses, key=losses.get)
    assert f"{kept} matching is kept" in out
    assert losses.keys() == {"weight", "activation (summed)", "activation (pearson)", "unaligned"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compare-methods", "a.pt", "b.pt", "--method", "magic"), "'magic' is not one of"),
        (("compare-methods", "a.pt", "b.pt", "--budget", "0"), "budget must be a positive number"),
        (("compare-methods", "a.pt", "b.pt", "--json", "a.pt"), "it is an input"),
        (("align", "a.pt", "b.pt", "--method", "activation", "--restarts", "3"), "activation takes no restarts"),
        (("align", "a.pt", "b.pt", "--method", "weight", "--effort", "high"), "weight takes no effort"),
    ],
)
def test_wrong_input_is_one_line(folder, monkeypatch, capsys, arguments, message):
    assert message in fails(monkeypatch, capsys, *arguments)
