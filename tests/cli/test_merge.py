"""`fastmatch merge`: one checkpoint of several, with a card, and figures of the public function."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import fastmatch
from fastmatch import checkpoints
from fastmatch.cli import main
from tests.cli.running import FILES, MODEL, fails, run


def test_the_merged_checkpoint_is_that_of_the_public_function(folder, monkeypatch, capsys):
    options = ["--weights", "0.5,0.3,0.2", "--limit", "200", "--method", "weight", "--json", "out.json"]
    out = run(monkeypatch, capsys, "merge", *FILES, "-o", "merged.safetensors", *options)
    loaded = [fastmatch.load(name) for name in FILES]
    data = fastmatch.load_data("digits", limit=200)
    states = [one.state_dict for one in loaded]
    expected = fastmatch.analysis.merge(loaded[0].module, states, data, weights=[0.5, 0.3, 0.2], method="weight")
    found, written = json.loads((folder / "out.json").read_text()), fastmatch.load("merged.safetensors")
    assert found["merged"] == json.loads(json.dumps(expected.to_json()["merged"]))
    assert [one["path"] for one in found["networks"]] == FILES
    for name, tensor in expected.state.items():
        assert torch.equal(written.state_dict[name], tensor)
    assert (written.card.model, written.card.data, written.card.step) == (MODEL, "digits", None)
    assert written.card.extra.keys() == {"merged"}
    about = written.card.extra["merged"]
    assert (about["reference"], about["seed"], about["limit"]) == ("universe", 0, 200)
    assert [part["sha256"] for part in about["parts"]] == [one.sha256 for one in loaded]
    assert "ensemble" in out
    assert f"{expected.merged['test'].loss:.4f}" in out


def test_the_merged_checkpoint_can_be_used_further(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "merge", "a.pt", "b.pt", "-o", "merged.pt", "--limit", "200", "--bn", "repair")
    run(monkeypatch, capsys, "barrier", "a.pt", "merged.pt", "--alphas", "3", "--limit", "50")


def relabel(name, noise):
    """Write a checkpoint again, as one that was trained with this label noise."""
    stored = fastmatch.load(name)
    card = replace(stored.card, extra={**stored.card.extra, "label_noise": noise})
    checkpoints.write(name, stored.state_dict, card)


def test_label_noise_and_places_of_parts_are_those_of_the_parts(folder, monkeypatch, capsys):
    for name in FILES[:2]:
        relabel(name, 0.3)
    (folder / "out").mkdir()
    options = ["--method", "weight", "--limit", "200", "--json", "out.json"]
    run(monkeypatch, capsys, "merge", *FILES[:2], "-o", "out/m.pt", *options)
    written, found = fastmatch.load("out/m.pt"), json.loads((folder / "out.json").read_text())
    assert written.card.extra["label_noise"] == 0.3
    assert [part["path"] for part in written.card.extra["merged"]["parts"]] == ["../a.pt", "../b.pt"]
    noisy = fastmatch.load_data("digits", limit=200, label_noise=0.3)
    expected = fastmatch.evaluate(written.module, [written.state_dict], np.ones((1, 1)), noisy.train)
    assert found["merged"]["train"]["loss"] == pytest.approx(expected.loss[0], rel=1e-4)


def test_parts_of_different_label_noise_are_refused(folder, monkeypatch, capsys):
    relabel("c.pt", 0.3)
    monkeypatch.setattr("sys.argv", ["fastmatch", "merge", *FILES, "-o", "m.pt", "--limit", "200"])
    with pytest.raises(SystemExit):
        main()
    error = capsys.readouterr().err
    assert "a.pt was trained with label noise 0, c.pt with 0.3" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pt", "-o", "m.pt"], "received one network;"),
        ([*FILES, "wide.pt", "-o", "m.pt"], "only networks of one architecture"),
        ([*FILES, "-o", "m.pt", "--weights", "0.5,0.5"], "2 weights for 3 networks"),
        ([*FILES, "-o", "m.pt", "--weights", "0.5,half,0.1"], "are not numbers"),
        ([*FILES, "-o", "m.pt", "--weights", "1,-1,1"], "from 0 on"),
        ([*FILES, "-o", "b.pt"], "cannot write b.pt: it is an input"),
        ([*FILES, "-o", "m.txt"], "name a file that ends in .pt or .safetensors"),
        ([*FILES], "Missing option"),
        (["none.pt", "a.pt", "-o", "m.pt"], "no checkpoint at none.pt"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, capsys, arguments, message):
    assert message in fails(monkeypatch, capsys, "merge", *arguments)
    assert not (folder / "m.pt").exists()
