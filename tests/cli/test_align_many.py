"""`fastmatch align` of many networks: ordinary alignments in a folder, and how far they agree."""

import json
import shutil
from types import SimpleNamespace

import pytest

import fastmatch
from fastmatch.cli import align_many
from tests.cli.running import FILES, fails, run


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
    assert all(entry["certificate"]["passed"] and entry["units"] == 16 for entry in found["alignments"])
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
    options = ["--method", "weight", "--restarts", "2", "--reference", "pairwise", "-o", "of pairs"]
    options += ["--json", "out.json"]
    out = run(monkeypatch, capsys, "align", *FILES, *options)
    found = json.loads((folder / "out.json").read_text())
    one = fastmatch.Permutation.load("of pairs/b-c.safetensors")
    expected = fastmatch.match_pairs(one.spec, states(), method="weight", restarts=2)
    assert len(found["alignments"][0]["restarts"]) == 2
    assert found["alignments"][0]["units"] == 16
    assert "3 pairs by themselves" in out
    assert "next: fastmatch barrier 'of pairs/a-b.safetensors'" in out
    assert one == expected.between(1, 2)
    assert found["inconsistency"] == expected.inconsistency > 0
    assert [entry["pair"] for entry in found["alignments"]] == [[0, 1], [0, 2], [1, 2]]
    assert found["alignments"][2]["objective_after"] == expected.matches[1, 2].objective_after
    assert f"{100 * expected.inconsistency:.2f} % of the units do not come back" in out


def test_pairs_say_how_each_was_matched(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "align", *FILES, "--reference", "pairwise", "--limit", "100")
    assert out.count("loss half-way on training examples") == 3
    assert out.count("auto: ") == 3


def test_nothing_is_written_before_all_is_certified(folder, monkeypatch, capsys):
    certified = []

    def certify(*given):
        certified.append(not (folder / "alignments").exists())
        return fastmatch.certify(*given)

    monkeypatch.setattr(align_many, "fastmatch", SimpleNamespace(**vars(fastmatch) | {"certify": certify}))
    run(monkeypatch, capsys, "align", *FILES, "--method", "weight", "--limit", "100")
    assert certified == [True, True]


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
        ([*FILES, "--restarts", "3"], "--restarts does not go with one order of many networks"),
        ([*FILES, "--start", "x"], "--start does not go with lining up many networks"),
        ([*FILES, "--method", "weight", "--steps", "3", "--reference", "pairwise"], "method weight takes no steps"),
        (["none.pt", *FILES, "--method", "straight_through"], "use --reference pairwise"),
        (["a.pt", "b.pt", "--reference", "first", "-o", "x.safetensors"], "x.safetensors is the name of a file"),
        ([*FILES, "--apply", "x.pt"], "--apply does not go with lining up many networks"),
        ([*FILES, "-o", "a.pt"], "a.pt is a file; name a folder"),
        ([*FILES, "-o", "none/there"], "there is no folder none"),
        ([*FILES, "--reference", "best"], "'best' is not one of"),
        ([*FILES, "--json", "a.pt"], "it is an input"),
        ([*FILES, "--method", "activation", "--tracing", "run"], "use --method weight"),
    ],
)
def test_bad_input_is_one_line(folder, monkeypatch, capsys, arguments, message):
    assert message in fails(monkeypatch, capsys, "align", *arguments)
    assert not (folder / "alignments").exists()
