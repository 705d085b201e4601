"""``inspect`` and specs on the command line: reports, exports, wrong specs, frozen groups, networks of the user."""

import json

import pytest
import torch

import fastmatch
from tests.cli.running import fails, run

FACTORY = """
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self, layers, branch):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True)
        self.encoder, self.head, self.branch = nn.TransformerEncoder(layer, layers), nn.Linear(8, 3), branch
        self.stem = nn.Linear(4, 8)
        self.example_input_array = torch.randn(2, 5, 4)

    def forward(self, x):
        x = self.encoder(self.stem(x))
        if self.branch and x.sum() > 1e9:
            x = -x
        return self.head(x)

def plain(layers=2):
    return Encoder(layers, False)

def branching():
    return Encoder(2, True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(FACTORY)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        torch.save(fastmatch.networks.build("nets.py:plain").state_dict(), f"{name}.pt")
    return tmp_path


PLAIN = ("--model", "nets.py:plain")


def test_layers_that_are_alike_are_one_row_and_all_are_in_the_json(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "inspect", "a.pt", *PLAIN, "--json", "report.json")
    assert "encoder.layers.*.self_attn#inside (2 alike)" in out
    assert "2 x 4" in out
    assert "the same function" in out
    report = json.loads((folder / "report.json").read_text())
    assert len(report["groups"]) == 9
    inside = next(group for group in report["groups"] if group["name"] == "encoder.layers.1.self_attn#inside")
    assert inside["base"] == ["encoder.layers.1.self_attn#blocks"]
    assert report["certificate"]["passed"]
    assert report["tracing"] == "export"


def test_an_exported_spec_is_used_in_place_of_tracing(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "inspect", "a.pt", *PLAIN, "--export", "spec.json")
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", *PLAIN, "-o", "traced.safetensors")
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", *PLAIN, "--spec", "spec.json", "-o", "given.safetensors")
    traced, given = (fastmatch.Permutation.load(f"{name}.safetensors") for name in ("traced", "given"))
    assert given == traced
    assert given.spec.digest == traced.spec.digest


@pytest.mark.parametrize("command", [("inspect", "a.pt"), ("align", "a.pt", "b.pt")])
def test_an_edited_spec_that_is_wrong_is_refused_with_the_group_at_fault(folder, monkeypatch, capsys, command):
    run(monkeypatch, capsys, "inspect", "a.pt", *PLAIN, "--export", "spec.json")
    layer = "encoder.layers.1.linear"
    data = json.loads((folder / "spec.json").read_text())
    data["tensors"][f"{layer}1.bias"]["axes"] = ["[10]"]
    (folder / "wrong.json").write_text(json.dumps(data))
    line = fails(monkeypatch, capsys, *command, *PLAIN, "--spec", "wrong.json")
    assert f"group '{layer}1' ({layer}1.weight[0], {layer}2.weight[1])" in line
    assert not (folder / "alignment.safetensors").exists()


def test_frozen_groups_do_not_move(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", *PLAIN, "--freeze", "encoder.layers.0.*", "--freeze", "stem")
    permutation = fastmatch.Permutation.load("alignment.safetensors")
    assert sorted(permutation.indices) == sorted(
        f"encoder.layers.1.{name}" for name in ("self_attn#blocks", "self_attn#inside", "self_attn#inside2", "linear1")
    )
    assert "no group fits 'nobody'" in fails(monkeypatch, capsys, "inspect", "a.pt", *PLAIN, "--freeze", "nobody")


def test_a_network_that_cannot_be_exported_is_traced_on_request(folder, monkeypatch, capsys):
    model = ("--model", "nets.py:branching")
    assert "--tracing run" in fails(monkeypatch, capsys, "inspect", "a.pt", *model)
    out = run(monkeypatch, capsys, "inspect", "a.pt", *model, "--tracing", "run")
    assert "traced one run: branches that depend on data are followed as taken" in out
    assert "9 groups" in out
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", *model, "--tracing", "run")


def test_hundreds_of_parameters_fit_on_a_page(folder, monkeypatch, capsys):
    model = ("--model", "nets.py:plain(28)")
    torch.save(fastmatch.networks.build(model[1]).state_dict(), "deep.pt")
    out = run(monkeypatch, capsys, "inspect", "deep.pt", *model, "--no-certify")
    assert "113 groups of units, 340 tensors" in out
    assert len(out.splitlines()) < 60
    assert "certificate" not in out
