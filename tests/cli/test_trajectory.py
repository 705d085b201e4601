"""`fastmatch trajectory`: what it reads, writes, prints and draws, how it resumes, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastmatch
from fastmatch.cli import cli, main
from fastmatch.interpolation.pairs import Segments
from tests.cli.running import run

MODEL = "mlp(64, 16, 12, 10)"
COMMAND = ["trajectory", "a.pt", "b.pt", "--alphas", "3", "--limit", "100"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two runs with three steps each, the last of them the checkpoint itself."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate("ab"):
        train = ["train", MODEL, "--data", "digits", "--epochs", "2", "--save-epochs", "0,1", "--seed", str(seed)]
        cli.main([*train, "-o", str(folder / f"{name}.pt")], standalone_mode=False)
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(name):
    return json.loads(Path(name).read_text())


def states(name):
    paths = [f"{name}/step-000000.pt", f"{name}/step-000012.pt", f"{name}.pt"]
    return {step: fastmatch.load(path).state_dict for step, path in zip((0, 12, 24), paths, strict=True)}


def test_the_grid_is_that_of_the_public_function(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, *COMMAND, "--joint", "--json", "out.json", "--plot", "out.svg")
    assert "a.pt - b.pt, mlp(64, 16, 12, 10), digits, weight matching: 3 steps, on cpu" in out
    assert out.count("\n") == 2 + 5 + 1
    found, network = read("out.json"), fastmatch.load("a.pt")
    data = fastmatch.load_data("digits", limit=100)
    spec = fastmatch.trace(network.module, network.example_inputs)
    arguments = network.module, spec, states("a"), states("b"), data
    expected = fastmatch.analysis.trajectory(*arguments, alphas=3, joint=True)
    assert found["steps"] == [0, 12, 24]
    assert found["permutations"] == ["unaligned", "0", "12", "24", "joint"]
    heights = [entry["barriers"]["test"]["loss"]["linear"] for entry in found["heights"]]
    np.testing.assert_allclose(np.reshape(heights, (5, 3)), expected.matrix(), atol=1e-6)
    assert found["fixed_points"] == expected.fixed_points()
    assert {f"step {step} of {side}" for step in (0, 12, 24) for side in "ab"} <= found["options"].keys()


def test_a_later_run_computes_what_is_missing(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, *COMMAND, "--at", "last", "--json", "out.json", "--plot", "out.svg")
    calls, original = [], Segments.__call__
    monkeypatch.setattr(Segments, "__call__", lambda self, *pair: calls.append(pair[0]) or original(self, *pair))
    again = run(monkeypatch, capsys, *COMMAND, "--at", "last", "--json", "out.json")
    assert calls == []
    assert "7 results known before" in again
    run(monkeypatch, capsys, *COMMAND, "--at", "0,24", "--json", "out.json")
    assert calls == [(0, 3), (1, 4), (2, 5)]


def test_activations_are_matched_on_the_runs_named_by_their_folders(folder, monkeypatch, capsys):
    command = ["trajectory", "a", "b", *COMMAND[3:], "--method", "activation", "--at", "last"]
    run(monkeypatch, capsys, *command, "--json", "out.json")
    found = read("out.json")
    assert found["permutations"] == ["unaligned", "12"]
    data = fastmatch.load_data("digits", limit=100)
    network = fastmatch.load("a.pt")
    spec = fastmatch.trace(network.module, network.example_inputs)
    sides = states("a")[12], states("b")[12]
    match = fastmatch.match_activations(spec, network.module, *sides, data.train, similarity="linear")
    indices = {name: index.tolist() for name, index in match.permutation.indices.items()}
    assert found["entries"]["permutation 12"] == indices


def _break(folder, kind):
    other = folder / "other.pt"
    match kind:
        case "no folder":
            shutil.rmtree(folder / "b")
        case "other steps":
            (folder / "b" / "step-000012.pt").unlink()
        case "empty":
            for file in (folder / "b").iterdir():
                file.unlink()
        case "twice":
            shutil.copy(folder / "b" / "step-000012.pt", folder / "b" / "step-12.pt")
        case "width":
            train = ["train", "mlp(64, 8, 12, 10)", "--data", "digits", "--epochs", "2", "--save-epochs", "0,1"]
            cli.main([*train, "-o", str(other)], standalone_mode=False)
            shutil.rmtree(folder / "b")
            shutil.move(folder / "other", folder / "b")
            shutil.move(other, folder / "b.pt")
        case "nan":
            state = fastmatch.load("b.pt").state_dict
            state["linear1.weight"][0, 0] = float("nan")
            fastmatch.checkpoints.write("b.pt", state, fastmatch.load("b.pt").card)


@pytest.mark.parametrize(
    ("kind", "extra", "message"),
    [
        ("no folder", [], "b.pt is no training run: no folder b beside it; write one with fastmatch train"),
        ("other steps", [], "only the first run has step 12; save both after the same steps"),
        ("empty", [], "b holds no step-000123.pt"),
        ("twice", [], "b holds step 12 twice"),
        ("width", [], "only networks of one architecture and width can be aligned"),
        ("nan", [], "NaN or infinite weights"),
        ("none", ["--at", "7"], "there is no step 7; the runs have 0, 12, 24"),
        ("none", ["--at", "some"], "--at some is neither all, last, nor a list of steps"),
        ("none", ["--plot", "x.txt"], "cannot draw to x.txt"),
        ("none", ["--json", "a/step-000012.pt"], "it is an input"),
        ("none", ["--json", "other.json"], "other.json is not a result of `fastmatch trajectory`"),
        ("none", ["--alphas", "1"], "alphas must be at least 2"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, capsys, kind, extra, message):
    (folder / "other.json").write_text("{}")
    _break(folder, kind)
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["fastmatch", *COMMAND, *extra])
    with pytest.raises(SystemExit) as stop:
        main()
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert len(lines) == 1
    assert message in lines[0]
