"""`fastmatch matrix`: what it writes is what the public function finds, and it goes on where it was stopped."""

import json
import shutil

import pytest
import torch

import fastmatch
from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card
from fastmatch.cli import cli, main
from fastmatch.interpolation.pairs import Segments
from tests.cli.running import fails, run

MODEL = "mlp(64, 16, 10)"
FILES = ["a.pt", "b.pt", "c.pt"]
SHORT = ["--alphas", "3", "--limit", "100"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three networks, a copy of the first with its units in another order, one of another width, one with NaN."""
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(FILES):
        train = ["train", MODEL, "--data", "digits", "--epochs", "8", "--seed", str(seed), "-o", str(folder / name)]
        cli.main(train, standalone_mode=False)
    a = fastmatch.load(folder / "a.pt")
    spec = fastmatch.trace(a.module, a.example_inputs)
    checkpoints.write(folder / "copy.pt", fastmatch.Permutation.random(spec, 1).apply(a.state_dict), a.card)
    checkpoints.write(folder / "wide.pt", networks.build("mlp(64, 17, 10)").state_dict(), Card(model="mlp(64, 17, 10)"))
    broken = {name: torch.full_like(tensor, torch.nan) for name, tensor in a.state_dict.items()}
    checkpoints.write(folder / "nan.pt", broken, a.card)
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(names, **options):
    loaded = [fastmatch.load(name) for name in names]
    data = fastmatch.load_data("digits", limit=100)
    return fastmatch.analysis.population(
        loaded[0].module, [one.state_dict for one in loaded], data, alphas=3, **options
    )


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], {}),
        (["--reference", "b.pt", "--method", "activation"], {"reference": 1, "method": "activation"}),
        (["--align", "pairs"], {"align": "pairs"}),
        (["--align", "none"], {"align": "none"}),
    ],
    ids=str,
)
def test_the_result_is_that_of_the_public_function(folder, monkeypatch, capsys, arguments, options):
    out = run(monkeypatch, capsys, "matrix", *FILES, *SHORT, *arguments, "--json", "out.json")
    found, result = json.loads((folder / "out.json").read_text()), expected(FILES, **options)
    whole = json.loads(json.dumps(result.to_json()))
    for name in ("align", "reference", "alphas", "epsilon", "quartiles", "clusters"):
        assert found[name] == whole[name], name
    for one in whole["pairs"]:
        entry = found["entries"]["-".join(map(str, one["pair"]))]
        assert entry["barriers"] == one["barriers"]
    assert found["paths"] == FILES
    assert "3 networks" in out
    assert f"one cluster from epsilon {result.clusters.connecting:.4f} on" in out


def test_a_permuted_copy_has_no_barrier_and_a_picture_shows_it(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "matrix", "a.pt", "b.pt", "copy.pt", *SHORT, "--json", "out.json", "--plot", "out.svg")
    epsilon = json.loads((folder / "out.json").read_text())["epsilon"]["test"]["loss"]
    assert abs(epsilon[0][2]) < 1e-5
    text = (folder / "out.svg").read_text()
    for name in ("a.pt", "b.pt", "copy.pt", "epsilon, test loss (nats)"):
        assert f"<!-- {name} -->" in text


def test_an_interrupted_matrix_goes_on(folder, monkeypatch, capsys):
    whole = json.loads(json.dumps(expected(FILES).to_json()))
    measure, calls = Segments.__call__, []

    def stop(self, pair, *arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(pair)
        return measure(self, pair, *arguments)

    monkeypatch.setattr(Segments, "__call__", stop)
    monkeypatch.setattr("sys.argv", ["fastmatch", "matrix", *FILES, *SHORT, "--json", "out.json"])
    with pytest.raises(SystemExit) as status:
        main()
    assert status.value.code == 130
    capsys.readouterr()
    assert set(json.loads((folder / "out.json").read_text())["entries"]) == {"align 0-1", "align 0-2", "0-1", "0-2"}
    calls.clear()
    run(monkeypatch, capsys, "matrix", *FILES, *SHORT, "--json", "out.json")
    assert calls == [(1, 2)]
    assert json.loads((folder / "out.json").read_text())["epsilon"] == whole["epsilon"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pt"], "a matrix has at least two"),
        (["a.pt", "none.pt"], "none.pt"),
        (["a.pt", "wide.pt"], "fastmatch.analysis.pad"),
        (["a.pt", "nan.pt"], "holds NaN"),
        (["a.pt", "b.pt", "--reference", "c.pt"], "c.pt is none of the networks"),
        (["a.pt", "b.pt", "--reference", "a.pt", "--align", "pairs"], "--reference is for --align reference"),
        (["a.pt", "b.pt", "--alphas", "1"], "at least 2"),
        (["a.pt", "b.pt", "--json", "a.pt"], "it is an input"),
        (["a.pt", "b.pt", "--plot", "out.jpg"], "out.jpg"),
    ],
    ids=str,
)
def test_bad_input_ends_in_one_line(folder, monkeypatch, capsys, arguments, message):
    assert message in fails(monkeypatch, capsys, "matrix", "--limit", "50", *arguments)


def test_other_options_do_not_extend_a_result(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "matrix", "a.pt", "b.pt", *SHORT, "--json", "out.json")
    error = fails(monkeypatch, capsys, "matrix", "a.pt", "b.pt", *SHORT, "--seed", "1", "--json", "out.json")
    assert "was made with seed 0, not 1" in error
