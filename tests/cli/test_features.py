"""`fastmatch features`: two networks, before and after an alignment, and a run that goes on."""

import json

import pytest

import fastmatch
from fastmatch.cli import cli, main
from tests.cli.running import fails, run

MODEL = "mlp(64, 24, 16, 10)"
FAST = ["--alphas", "3", "--limit", "100"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    for seed, name in enumerate("ab"):
        train = ["train", MODEL, "--data", "digits", "--epochs", "5", "--seed", str(seed)]
        cli.main([*train, "-o", str(folder / f"{name}.pt")], standalone_mode=False)
    pair = [str(folder / "a.pt"), str(folder / "b.pt")]
    cli.main(["align", *pair, "-o", str(folder / "alignment.safetensors")], standalone_mode=False)
    return folder


@pytest.fixture(autouse=True)
def _here(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_both_pairs_of_an_alignment_are_compared(monkeypatch, capsys, tmp_path):
    outputs = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.svg")]
    out = run(monkeypatch, capsys, "features", *FAST, *outputs)
    for word in ("unaligned", "aligned", "linear1", "linear3", "cosine 1/2", "stitched loss", "interpolate linearly"):
        assert word in out
    result = json.loads((tmp_path / "out.json").read_text())
    (_, unaligned), (_, aligned) = result["pairs"].items()
    assert [layer["name"] for layer in aligned["layers"]] == ["linear1", "linear2", "linear3"]
    assert aligned["layers"][1]["cosine"][1] > unaligned["layers"][1]["cosine"][1]
    # Stitched after the last layer is a alone, whatever the pair.
    assert aligned["stitching"][-1] == unaligned["stitching"][-1]
    assert (tmp_path / "out.svg").stat().st_size > 1000
    one = run(
        monkeypatch, capsys, "features", "a.pt", "alignment.safetensors", *FAST, "--json", str(tmp_path / "1.json")
    )
    assert "\nunaligned" not in one
    assert json.loads((tmp_path / "1.json").read_text())["pairs"]["unaligned"]["layers"] == aligned["layers"]


def test_a_stopped_run_goes_on_and_ends_as_one_without_a_stop(monkeypatch, capsys, tmp_path):
    target = ["features", "a.pt", "b.pt", *FAST, "--json"]
    whole, part = tmp_path / "whole.json", tmp_path / "part.json"
    first = run(monkeypatch, capsys, *target, str(whole))
    measured, real = [], fastmatch.analysis.features.__globals__["measure_stitch"]

    def stopping(*arguments):
        measured.append(arguments[-1])
        if len(measured) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setitem(fastmatch.analysis.features.__globals__, "measure_stitch", stopping)
    monkeypatch.setattr("sys.argv", ["fastmatch", *target, str(part)])
    with pytest.raises(SystemExit):
        main()
    capsys.readouterr()
    assert len(json.loads(part.read_text())["entries"]) == 5  # ends, three alphas, one stitch
    assert run(monkeypatch, capsys, *target, str(part)) == first
    assert measured == [None, "linear1", "linear1", "linear2", "linear3"]
    documents = [json.loads(path.read_text()) for path in (whole, part)]
    assert documents[0]["pairs"] == documents[1]["pairs"]
    assert "limit 100, not 90" in fails(monkeypatch, capsys, *target, str(part), "--limit", "90")


def test_bad_input_is_one_line(monkeypatch, capsys):
    for arguments, words in (
        (["a.pt", "b.pt", "--alphas", "4"], "must be odd"),
        (["a.pt", "missing.pt"], "missing.pt"),
        (["a.pt", "b.pt", "a.pt"], "received 3 networks"),
        (["a.pt"], "a.pt"),
        (["a.pt", "b.pt", "--plot", "x.txt"], ".png"),
        (["a.pt", "b.pt", "--json", "a.pt"], "a.pt"),
    ):
        message = fails(monkeypatch, capsys, "features", *arguments)
        assert message.startswith("Error: ")
        assert words in message
        assert message.count("\n") == 1
