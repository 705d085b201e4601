"""`fastmatch align` of many networks: ordinary alignments in a folder, and how far they agree."""

import json
import shutil

import pytest

import fastmatch
from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card
from fastmatch.cli import cli, main
from tests.cli.running import run

MODEL = "mlp(64, 16, 10)"
FILES = ["a.pt", "b.pt", "c.pt"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three networks, and one of another width."""
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(FILES):
        train = ["train", MODEL, "--data", "digits", "--epochs", "4", "--seed", str(seed), "-o", str(folder / name)]
        cli.main(train, standalone_mode=False)
    checkpoints.write(folder / "wide.pt", networks.build("mlp(64, 17, 10)").state_dict(), Card(model="mlp(64, 17, 10)"))
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def states():
    return [fastmatch.load(name).state_dict for name in FILES]


@pytest.mark.parametrize("reference", ["universe", "mean", "first"])
def test_a_common_order_is_written_as_alignments_to_the_first(folder, monkeypatch, capsys, reference):
    options = ["--method", "weight", "--reference", reference, "--seed", "3", "--json", "out.json"]
    out = run(monkeypatch, capsys, "align", *FILES, *options)
    found = json.loads((folder / "out.json").read_text())
    one = fastmatch.Permutation.load("alignments/a-b.safetensors")
    expected = fastmatch.match_many(one.spec, states(), method="weight", reference=reference, seed=3)
    assert one == expected.permutations[1]
    assert fastmatch.Permutation.load("alignments/a-c.safetensors") == expected.permutations[2]
    assert (found["objective_after"], found["inconsistency"]) == (expected.objective_after, 0)
    assert [entry["path"] for entry in found["alignments"]] == [f"alignments/a-{name}.safetensors" for name in "bc"]
    assert all(entry["certificate"]["passed"] for entry in found["alignments"])
    assert f"weight ({reference}) matching of 3 networks" in out
    assert "0.00 % of the units do not come back" in out


def test_barrier_and_matrix_read_the_files(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "align", *FILES, "--limit", "200")
    run(monkeypatch, capsys, "barrier", "alignments/a-c.safetensors", "--alphas", "3", "--limit", "50")
    files = ["a.pt", "alignments/a-b.safetensors", "alignments/a-c.safetensors"]
    assert "3 networks" in run(
        monkeypatch, capsys, "matrix", *files, "--align", "none", "--alphas", "3", "--limit", "50"
    )


def test_pairs_are_written_one_by_one(folder, monkeypatch, capsys):
    options = ["--method", "weight", "--reference", "pairwise", "-o", "pairs", "--json", "out.json"]
    out = run(monkeypatch, capsys, "align", *FILES, *options)
    found = json.loads((folder / "out.json").read_text())
    one = fastmatch.Permutation.load("pairs/b-c.safetensors")
    expected = fastmatch.match_pairs(one.spec, states(), method="weight")
    assert one == expected.between(1, 2)
    assert found["inconsistency"] == expected.inconsistency > 0
    assert [entry["pair"] for entry in found["alignments"]] == [[0, 1], [0, 2], [1, 2]]
    assert found["alignments"][2]["objective_after"] == expected.matches[1, 2].objective_after
    assert f"{100 * expected.inconsistency:.2f} % of the units do not come back" in out


def test_two_networks_with_a_reference_and_names_that_are_alike(folder, monkeypatch, capsys):
    (folder / "other").mkdir()
    shutil.copy("b.pt", "other/a.pt")
    run(monkeypatch, capsys, "align", "a.pt", "other/a.pt", "--reference", "first", "--method", "weight")
    assert fastmatch.Permutation.load("alignments/0-1.safetensors").metadata["b"]["path"] == "../other/a.pt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pt"], "received one network"),
        (["a.pt", "--reference", "first"], "received one network"),
        ([*FILES, "wide.pt"], "only networks of one architecture"),
        ([*FILES, "none.pt"], "no checkpoint at none.pt"),
        ([*FILES, "--restarts", "3"], "--restarts does not go with lining up many networks"),
        ([*FILES, "--apply", "x.pt"], "--apply does not go with lining up many networks"),
        ([*FILES, "-o", "a.pt"], "a.pt is a file; name a folder"),
        ([*FILES, "-o", "none/there"], "cannot make the folder none/there"),
        ([*FILES, "--reference", "best"], "'best' is not one of"),
        ([*FILES, "--json", "a.pt"], "it is an input"),
        ([*FILES, "--method", "activation", "--tracing", "run"], "use --method weight"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["fastmatch", "align", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (folder / "alignments" / "a-b.safetensors").exists()
