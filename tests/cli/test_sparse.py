"""Pruning on the command line: levels, resumption, masks carried to another network, and what is refused."""

import json
import os
from pathlib import Path

import pytest
import torch

from fastmatch import Permutation, checkpoints, trace, training
from fastmatch.checkpoints import Card
from fastmatch.cli import main
from tests.cli.running import run

MODEL = "mlp(64, 16, 16, 10)"
SHORT = ["--data", "digits", "--limit", "300", "--epochs", "2", "--device", "cpu"]
PRUNE = ["--prune", "0.5", "--levels", "2", "--rewind", "2"]


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fails(monkeypatch, capsys, message, *arguments):
    monkeypatch.setattr("sys.argv", ["fastmatch", *arguments])
    before = {str(path): path.lstat().st_mtime_ns for path in Path().rglob("*")}
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert stop.value.code == 2, captured
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1, captured.err
    assert message in captured.err
    assert {str(path): path.lstat().st_mtime_ns for path in Path().rglob("*")} == before


def test_levels_are_written_and_a_later_run_adds_to_them(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "train", MODEL, *SHORT, *PRUNE, "-o", "a.pt", "--json", "a.json")
    assert "wrote a.pt, all levels to a, on cpu" in out
    assert sorted(os.listdir("a")) == ["level-00.pt", "level-01.pt", "level-02.pt", "rewind.pt"]
    last, written = checkpoints.read("a/level-02.pt"), checkpoints.read("a.pt")
    assert same(last.state_dict, written.state_dict)
    assert same(last.masks, written.masks)
    assert training.density(last.masks) == 0.25
    assert (last.card.step, last.card.model, last.card.data) == (6, MODEL, "digits")
    levels = json.loads(Path("a.json").read_text())["levels"]
    assert [level["density"] for level in levels] == [1.0, 0.5, 0.25]
    times = {name: Path("a", name).stat().st_mtime_ns for name in os.listdir("a")}
    more = [*PRUNE[:3], "3", *PRUNE[4:]]
    out = run(monkeypatch, capsys, "train", MODEL, *SHORT, *more, "-o", "a.pt", "--json", "b.json")
    assert "3 of 4 levels known before" in out
    assert {name: Path("a", name).stat().st_mtime_ns for name in times} == times
    assert json.loads(Path("b.json").read_text())["levels"][:3] == levels
    fails(
        monkeypatch, capsys, "made with pruning.rewind 2, not 3", "train", MODEL, *SHORT, *PRUNE[:5], "3", "-o", "a.pt"
    )
    fails(monkeypatch, capsys, "recipe.lr 0.001, not 0.1", "train", MODEL, *SHORT, *PRUNE, "--lr", "0.1", "-o", "a.pt")


def test_a_network_retrained_under_its_own_masks_is_its_level(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "train", MODEL, *SHORT, *PRUNE, "-o", "a.safetensors")
    retrain = ["train", "--from", "a/rewind.safetensors", "--mask", "a/level-01.safetensors", *SHORT]
    out = run(monkeypatch, capsys, *retrain, "--rewind", "2", "-o", "again.pt")
    assert "50.00 % of weights" in out
    level, again = checkpoints.read("a/level-01.safetensors"), checkpoints.read("again.pt")
    assert same(level.state_dict, again.state_dict)
    assert same(level.masks, again.masks)
    assert again.card.step == level.card.step == 6
    run(monkeypatch, capsys, *retrain, "-o", "whole.pt")
    assert not same(checkpoints.read("whole.pt").state_dict, level.state_dict)


def test_a_pruned_parent_stays_pruned(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "train", MODEL, *SHORT, *PRUNE, "-o", "a.pt")
    run(monkeypatch, capsys, "train", "--from", "a.pt", *SHORT, "--save-steps", "1", "-o", "child.pt")
    parent, child = checkpoints.read("a.pt"), checkpoints.read("child.pt")
    assert same(parent.masks, child.masks)
    assert not same(parent.state_dict, child.state_dict)
    assert same(parent.masks, checkpoints.read("child/step-000001.pt").masks)


def test_masks_go_from_a_to_b_along_an_alignment(folder, monkeypatch, capsys):
    """B is a with its units moved: under the masks carried over, it trains to the moved network."""
    run(monkeypatch, capsys, "train", MODEL, *SHORT, *PRUNE, "-o", "a.pt")
    spec = trace(training.initialise(MODEL), (torch.zeros(2, 64),))
    moved = Permutation.random(spec, 3)
    for name in ("rewind", "level-00"):
        stored = checkpoints.read(f"a/{name}.pt")
        checkpoints.write(f"b-{name}.pt", moved.apply(stored.state_dict), Card(model=MODEL, data="digits"))
    run(monkeypatch, capsys, "align", "a/level-00.pt", "b-level-00.pt", "--restarts", "5", "-o", "ab.safetensors")
    assert Permutation.load("ab.safetensors") == moved.invert()
    carry = ["--alignment", "ab.safetensors", "--rewind", "2"]
    run(monkeypatch, capsys, "train", "--from", "b-rewind.pt", "--mask", "a.pt", *carry, *SHORT, "-o", "b.pt")
    found, expected = checkpoints.read("b.pt"), checkpoints.read("a.pt")
    assert same(found.masks, training.transport(expected.masks, moved))
    assert not same(found.masks, training.transport(expected.masks, moved.invert()))
    for name, tensor in moved.apply(expected.state_dict).items():
        torch.testing.assert_close(found.state_dict[name], tensor, rtol=1e-3, atol=1e-5)
    wrong = ["train", "--from", "a/level-00.pt", "--mask", "b.pt", *carry, *SHORT, "-o", "x.pt"]
    fails(monkeypatch, capsys, "masks of its a go to its b", *wrong)


def test_the_aligned_network_keeps_its_masks_moved(folder, monkeypatch, capsys):
    for seed in "01":
        run(monkeypatch, capsys, "train", MODEL, *SHORT, *PRUNE, "--seed", seed, "-o", f"{seed}.pt")
    run(monkeypatch, capsys, "align", "0.pt", "1.pt", "--apply", "moved.pt")
    p, before, after = (
        Permutation.load("alignment.safetensors"),
        checkpoints.read("1.pt"),
        checkpoints.read("moved.pt"),
    )
    assert same(after.state_dict, p.apply(before.state_dict))
    assert same(after.masks, training.transport(before.masks, p))
    assert not same(after.masks, before.masks)
    assert before.card.extra.keys() - after.card.extra.keys() == {"lineage"}  # its units are not where its run's are


def test_a_trajectory_is_not_written_through_a_link_to_nowhere(folder, monkeypatch, capsys):
    Path("run").symlink_to("nowhere")
    arguments = ["train", MODEL, *SHORT, "--save-steps", "0", "-o", "run.pt"]
    fails(monkeypatch, capsys, "cannot write the trajectory to run: it is no folder", *arguments)


FACTORY = """
import torch
from fastmatch import load_data, networks
from torch.utils.data import TensorDataset

def small():
    return networks.build("mlp(64, 8, 10)")

def wide():
    return networks.build("mlp(64, 9, 10)")

def data():
    found = load_data("digits", limit=40)
    return tuple(TensorDataset(split.inputs, split.labels) for split in (found.train, found.test))
"""


def test_levels_of_another_network_or_of_other_data_are_refused(folder, monkeypatch, capsys):
    Path("code.py").write_text(FACTORY)
    common = ["--epochs", "1", "--device", "cpu", "--prune", "0.5", "-o", "a.pt"]
    arguments = ["train", "code.py:small", "--data", "code.py:data", *common]
    run(monkeypatch, capsys, *arguments)
    assert "2 of 2 levels known before" in run(monkeypatch, capsys, *arguments)
    fails(monkeypatch, capsys, "made with made.model code.py:small, not", "train", "code.py:wide", *arguments[2:])
    Path("code.py").write_text(FACTORY.replace("split.inputs,", "split.inputs / 2,"))
    fails(monkeypatch, capsys, "made with made.code", *arguments)
    Path("code.py").write_text(FACTORY)
    Path("other.py").write_text(FACTORY)
    from_other = [*arguments[:3], "other.py:data", *common]
    run(monkeypatch, capsys, *from_other[:-1], "b.pt")
    Path("other.py").write_text(FACTORY.replace("split.inputs,", "split.inputs / 2,"))
    fails(monkeypatch, capsys, "made with made.data_sha256", *from_other[:-1], "b.pt")


def test_an_alignment_the_wrong_way_round_or_of_other_networks_is_refused(folder, monkeypatch, capsys):
    """The files at hand are not those that were aligned, but of the same runs."""
    for name, seed in zip("abc", "012", strict=True):
        run(monkeypatch, capsys, "train", MODEL, *SHORT, *PRUNE, "--seed", seed, "-o", f"{name}.pt")
    for one, other in ("ab", "ba", "cb", "ac"):
        pair = (f"{one}/level-00.pt", f"{other}/level-00.pt")
        run(monkeypatch, capsys, "align", *pair, "-o", f"{one}{other}.safetensors")

    def carry(mask, alignment):
        chosen = ["--mask", mask, "--alignment", f"{alignment}.safetensors", "--rewind", "2"]
        return ["train", "--from", "b/rewind.pt", *chosen, *SHORT, "-o", "carried.pt"]

    run(monkeypatch, capsys, *carry("a/level-02.pt", "ab"))
    fails(monkeypatch, capsys, "masks of its a go to its b", *carry("a/level-02.pt", "ba"))
    fails(monkeypatch, capsys, "a/level-02.pt is of another run than a of cb", *carry("a/level-02.pt", "cb"))
    fails(monkeypatch, capsys, "b/rewind.pt is of another run than b of ac", *carry("a/level-02.pt", "ac"))
    # What was trained under masks is still of its run.
    own = ["train", "--from", "a/rewind.pt", "--mask", "a/level-01.pt", *SHORT, "--rewind", "2", "-o", "again.pt"]
    run(monkeypatch, capsys, *own)
    run(monkeypatch, capsys, *carry("again.pt", "ab"))


REFUSED = {
    "levels alone": (["--levels", "2"], "--levels is for --prune"),
    "rewind alone": (["--rewind", "2"], "--rewind is for --prune"),
    "scope alone": (["--prune-scope", "layer"], "--prune-scope is for --prune"),
    "all pruned": (["--prune", "1"], "fraction to prune 1.0 is out of range"),
    "no level": (["--prune", "0.2", "--levels", "0"], "number of levels 0"),
    "late rewind": (["--prune", "0.2", "--rewind", "6"], "step to rewind to 6 is not before the last step 6"),
    "trajectory": (["--prune", "0.2", "--save-epochs", "1"], "leave out --mask, --save-epochs"),
    "masks and pruning": (["--prune", "0.2", "--mask", "sparse.pt"], "leave out --mask"),
    "levels in a file": (["--prune", "0.2", "-o", "file.pt"], "cannot write the levels to file: it is a file"),
    "mask missing": (["--mask", "nowhere.pt"], "no checkpoint at nowhere.pt"),
    "mask of a dense network": (["--mask", "dense.pt"], "dense.pt has no masks"),
    "mask of another network": (["--mask", "other.pt"], "use masks of this network"),
    "mask as output": (["--mask", "sparse.pt", "-o", "sparse.pt"], "is an input"),
    "alignment alone": (["--alignment", "id.safetensors"], "name it with --mask"),
    "alignment missing": (["--mask", "sparse.pt", "--alignment", "no.safetensors"], "no alignment at no.safetensors"),
    "alignment of others": (["--mask", "other.pt", "--alignment", "id.safetensors"], "does not fit the network of"),
    "pruned twice": (["--from", "sparse.pt", "--prune", "0.2"], "sparse.pt is pruned already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_gets_one_line_and_writes_nothing(case, folder, monkeypatch, capsys):
    arguments, message = REFUSED[case]
    for name, model in (("sparse", MODEL), ("other", "mlp(64, 8, 8, 10)")):
        state = training.initialise(model).state_dict()
        masks = training.prune(state, 0.3)
        card = Card(model=model, data="digits")
        checkpoints.write(f"{name}.pt", training.apply_masks(masks, state), card, masks)
    checkpoints.write("dense.pt", training.initialise(MODEL).state_dict(), Card(model=MODEL))
    Permutation.identity(trace(training.initialise(MODEL), (torch.zeros(2, 64),))).save("id.safetensors")
    Path("file").touch()
    network = [] if "--from" in arguments else [MODEL]
    output = [] if "-o" in arguments else ["-o", "new.pt"]
    fails(monkeypatch, capsys, message, "train", *network, *SHORT, *arguments, *output)
