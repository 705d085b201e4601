"""Result files that are gone on with: nothing of other networks, other code or another hand gets in."""

import json

import pytest
import torch

import fastmatch
from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card
from fastmatch.cli.resume import Entries
from fastmatch.errors import OutputError
from tests.cli.running import fails, run

MODEL = "mlp(64, 4, 10)"
FACTORY = """
import torch

def make():
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(64, 4), torch.nn.{}(), torch.nn.Linear(4, 10)
    )
"""
SHORT = ["--alphas", "2", "--limit", "50", "--data", "digits"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, seed, scale=1.0):
    torch.manual_seed(seed)
    state = {name: scale * tensor for name, tensor in networks.build(MODEL).state_dict().items()}
    path.parent.mkdir(exist_ok=True)
    checkpoints.write(path, state, Card(model=MODEL))


def test_entries_are_read_back_and_an_edited_file_is_refused(folder):
    options = {"step 0 of a": "1f"}
    Entries("out.json", "some", options, "cpu")["key"] = {"loss": float("nan")}
    assert dict(Entries("out.json", "some", options, "cpu")) == {"key": {"loss": None}}
    with pytest.raises(OutputError, match="made with step 0 of a 1f, not 2f"):
        Entries("out.json", "some", {"step 0 of a": "2f"}, "cpu")
    document = json.loads((folder / "out.json").read_text())
    document["entries"]["key"] = 1
    (folder / "out.json").write_text(json.dumps(document))
    with pytest.raises(OutputError, match="was changed since it was written"):
        Entries("out.json", "some", options, "cpu")


def test_a_factory_that_was_edited_does_not_extend_a_result(folder, monkeypatch, capsys):
    for seed in (0, 1):
        write(folder / f"{seed}.pt", seed)
        stored = fastmatch.load(folder / f"{seed}.pt").state_dict
        renamed = dict(zip(("1.weight", "1.bias", "3.weight", "3.bias"), stored.values(), strict=True))
        checkpoints.write(folder / f"{seed}.pt", renamed)
    command = ["matrix", "0.pt", "1.pt", *SHORT, "--model", "nets.py:make", "--json", "out.json"]
    (folder / "nets.py").write_text(FACTORY.format("ReLU"))
    run(monkeypatch, capsys, *command)
    (folder / "nets.py").write_text(FACTORY.format("Tanh"))
    assert "out.json was made with model_sha256" in fails(monkeypatch, capsys, *command)


def test_networks_of_one_name_are_told_apart_by_their_folders(folder, monkeypatch, capsys):
    for seed in (0, 1):
        write(folder / str(seed) / "net.pt", seed)
    out = run(monkeypatch, capsys, "matrix", "0/net.pt", "1/net.pt", *SHORT)
    assert "(0/net.pt - 1/net.pt)" in out


def test_a_network_that_diverged_is_named(folder, monkeypatch, capsys):
    write(folder / "a.pt", 0)
    write(folder / "b.pt", 1, scale=1e25)
    assert "the loss of b.pt is" in fails(monkeypatch, capsys, "matrix", "a.pt", "b.pt", *SHORT)
