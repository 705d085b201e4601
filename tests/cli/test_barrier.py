"""The forms of `fastmatch barrier`: a line without alignment, a triangle, and a list of pairs that can be resumed."""

import csv
import json
import shutil

import numpy as np
import pytest

import fastmatch
from fastmatch.cli import cli, main
from fastmatch.cli.options import _bytes
from fastmatch.interpolation import strategies
from tests.cli.running import run

MODEL = "mlp(64, 24, 10)"
LIST = ["barrier", "--pairs", "lists/pairs.csv", "--alphas", "3", "--limit", "200", "--json", "out.json"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three networks, and alignments of the second and the third with the first."""
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate("abc"):
        train = ["train", MODEL, "--data", "digits", "--epochs", "8", "--seed", str(seed)]
        cli.main([*train, "-o", str(folder / f"{name}.pt")], standalone_mode=False)
    for name in "bc":
        pair = [str(folder / "a.pt"), str(folder / f"{name}.pt")]
        align = ["align", *pair, "--method", "activation", "-o", str(folder / f"a{name}.safetensors")]
        cli.main(align, standalone_mode=False)
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "lists").mkdir()
    write_list("../a.pt,../b.pt", "../a.pt,../ab.safetensors", "../b.pt,../c.pt", folder=tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_list(*lines, folder):
    (folder / "lists" / "pairs.csv").write_text("".join(f"{line}\n" for line in lines))


def read(path):
    return json.loads(path.read_text())


def permuted(name):
    return fastmatch.Permutation.load(f"a{name}.safetensors").apply(fastmatch.load(f"{name}.pt").state_dict)


@pytest.mark.parametrize(("other", "state"), [("b.pt", "unaligned"), ("ab.safetensors", "aligned")])
def test_two_networks_are_measured_on_the_line_as_they_are(folder, monkeypatch, capsys, other, state):
    run(monkeypatch, capsys, "barrier", "ab.safetensors", "--alphas", "5", "--json", "both.json")
    outputs = ["--json", "line.json", "--csv", "line.csv", "--plot", "line.svg"]
    out = run(monkeypatch, capsys, "barrier", "a.pt", other, "--alphas", "5", *outputs)
    assert f"a.pt - {other}, digits: 5 alphas" in out
    assert "aligned" not in out
    line, both = read(folder / "line.json"), read(folder / "both.json")
    assert list(line["curves"]) == list(line["barriers"]) == ["unaligned"]
    for split in ("train", "test"):
        found, expected = line["curves"]["unaligned"][split], both["curves"][state][split]
        np.testing.assert_allclose(found["loss"], expected["loss"], atol=1e-6)
        assert found["error"] == expected["error"]
    assert [side["path"] for side in line["networks"]] == ["a.pt", other]
    assert len(list(csv.DictReader((folder / "line.csv").open()))) == 10
    assert "<!-- test -->" in (folder / "line.svg").read_text()


def test_networks_are_repaired(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "barrier", "ab.safetensors", "--alphas", "3", "--bn", "repair", "--json", "line.json")
    a, data, permutation = (
        fastmatch.load("a.pt"),
        fastmatch.load_data("digits"),
        fastmatch.Permutation.load("ab.safetensors"),
    )
    options = {"permutation": permutation, "alphas": 3}
    states = a.state_dict, fastmatch.load("b.pt").state_dict
    repaired, reset = (fastmatch.barrier(a.module, *states, data, **options, bn=bn) for bn in ("repair", "reset"))
    found = read(folder / "line.json")
    assert found["bn"] == "repair"
    assert found["curves"] == repaired.to_json()["curves"]
    assert found["curves"] != reset.to_json()["curves"]


def test_three_networks_are_measured_over_their_triangle(folder, monkeypatch, capsys):
    outputs = ["--json", "triangle.json", "--csv", "triangle.csv", "--plot", "triangle.png"]
    out = run(monkeypatch, capsys, "barrier", "a.pt", "ab.safetensors", "ac.safetensors", "--grid", "4", *outputs)
    assert "10 points, 4 on an edge, 1437 train examples and 360 test examples" in out
    for edge in ("ab", "ac", "bc"):
        assert f"edge {edge}, test" in out
    a, data = fastmatch.load("a.pt"), fastmatch.load_data("digits")
    expected = fastmatch.triangle(a.module, [a.state_dict, permuted("b"), permuted("c")], data, grid=4)
    found = read(folder / "triangle.json")
    assert found | json.loads(json.dumps(expected.to_json())) == found
    assert found["bn"] == "reset"
    rows = list(csv.DictReader((folder / "triangle.csv").open()))
    assert len(rows) == 20
    assert [float(row["loss"]) for row in rows[10:]] == found["surfaces"]["test"]["loss"]
    assert (folder / "triangle.png").read_bytes().startswith(b"\x89PNG")


def test_the_triangle_has_nine_points_on_an_edge_by_default(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "barrier", "a.pt", "b.pt", "c.pt", "--limit", "50")
    assert "45 points, 9 on an edge, 50 train examples and 50 test examples" in out


def test_every_pair_of_a_list_has_its_barrier(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, *LIST, "--csv", "out.csv")
    assert "lists/pairs.csv: 3 pairs, 3 alphas, on cpu" in out
    rows, table = read(folder / "out.json")["pairs"], list(csv.DictReader((folder / "out.csv").open()))
    a, data = fastmatch.load("a.pt"), fastmatch.load_data("digits", limit=200)
    ends = {"b.pt": fastmatch.load("b.pt").state_dict, "ab.safetensors": permuted("b")}
    for row, line, (name, end) in zip(rows, table, ends.items(), strict=False):
        expected = fastmatch.barrier(a.module, a.state_dict, end, data, alphas=3).to_json()
        assert (row["a"]["path"], row["b"]["path"]) == (line["a"], line["b"]) == ("../a.pt", f"../{name}")
        assert row["barriers"] == expected["barriers"]["unaligned"]
        assert row["curves"] == expected["curves"]["unaligned"]
        height = row["barriers"]["test"]["loss"]
        assert float(line["test_loss_linear"]) == height["linear"]
        assert f"../a.pt - ../{name}" in out
        assert f"{height['linear']:.4f} ± {height['linear_se']:.4f}" in out
    assert len(rows) == len(table) == 3


class Interrupted:
    """`fastmatch.barrier` until the user interrupts it; counts its calls."""

    def __init__(self, after):
        self.calls, self._after, self._measure = 0, after, fastmatch.barrier

    def __call__(self, *arguments, **options):
        if self.calls == self._after:
            raise KeyboardInterrupt
        self.calls += 1
        return self._measure(*arguments, **options)


def interrupt(monkeypatch, capsys, after):
    """Run the list until it is interrupted; return how many pairs were evaluated."""
    with monkeypatch.context() as patch:
        measure = Interrupted(after)
        patch.setattr("fastmatch.barrier", measure)
        patch.setattr("sys.argv", ["fastmatch", *LIST])
        with pytest.raises(SystemExit) as stop:
            main()
        capsys.readouterr()
        assert stop.value.code == (130 if after < 3 else 0)
        return measure.calls


@pytest.mark.parametrize("after", [[0], [1], [2], [1, 1], [1, 0, 1]], ids=str)
def test_an_interrupted_run_gives_the_bytes_of_an_uninterrupted_one(folder, monkeypatch, capsys, after):
    run(monkeypatch, capsys, *LIST)
    whole = (folder / "out.json").read_bytes()
    (folder / "out.json").unlink()
    for number, pairs in enumerate(after, 1):
        assert interrupt(monkeypatch, capsys, pairs) == pairs
        done = sum(after[:number])
        assert (folder / "out.json").exists() == (done > 0)
        assert done == 0 or len(read(folder / "out.json")["pairs"]) == done
    assert interrupt(monkeypatch, capsys, 3) == 3 - sum(after)
    assert (folder / "out.json").read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_a_complete_file_is_read_and_left_alone(folder, monkeypatch, capsys):
    first = run(monkeypatch, capsys, *LIST)
    before = (folder / "out.json").read_bytes(), (folder / "out.json").stat().st_mtime_ns
    assert interrupt(monkeypatch, capsys, 3) == 0
    second = run(monkeypatch, capsys, *LIST, "--csv", "out.csv")
    assert ((folder / "out.json").read_bytes(), (folder / "out.json").stat().st_mtime_ns) == before
    assert "3 pairs, 3 of them known before" in second
    assert second.splitlines()[1:] == first.splitlines()[1:]


def test_a_longer_list_extends_the_file_and_a_changed_network_is_measured_anew(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, *LIST)
    before = read(folder / "out.json")["pairs"]
    write_list("../a.pt,../c.pt", "../a.pt,../b.pt", "../a.pt,../c.pt", folder=folder)
    assert interrupt(monkeypatch, capsys, 3) == 1  # a pair that stands there twice is measured once
    assert read(folder / "out.json")["pairs"][:3] == before
    shutil.copy("c.pt", "b.pt")
    assert interrupt(monkeypatch, capsys, 3) == 0  # by its content a-b is a-c now
    train = ["train", MODEL, "--data", "digits", "--epochs", "1", "--seed", "9", "-o", "b.pt"]
    run(monkeypatch, capsys, *train)
    assert interrupt(monkeypatch, capsys, 3) == 1
    assert len(read(folder / "out.json")["pairs"]) == 5


def test_a_list_of_a_single_example_has_no_standard_errors_and_is_resumed(folder, monkeypatch, capsys):
    single = ["1" if word == "200" else word for word in LIST]
    first = run(monkeypatch, capsys, *single)
    assert "± nan" in first
    assert read(folder / "out.json")["pairs"][0]["barriers"]["test"]["loss"]["linear_se"] is None
    assert run(monkeypatch, capsys, *single).splitlines()[1:] == first.splitlines()[1:]


@pytest.fixture
def quick(monkeypatch):
    """Evaluations are worth lowering, and bfloat16 is worth running, whatever they cost and the processor has."""
    monkeypatch.setattr(strategies, "_WORTH", 0.0)
    monkeypatch.setattr(strategies, "has_bfloat16", lambda: True)


FORMS = {
    "alignment": (["ab.safetensors", "--alphas", "3"], ("curves", "unaligned", "test", "error")),
    "line": (["a.pt", "b.pt", "--alphas", "3"], ("curves", "unaligned", "test", "error")),
    "triangle": (["a.pt", "b.pt", "c.pt", "--grid", "3"], ("surfaces", "test", "error")),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_precision_that_ran_is_printed_and_written(folder, monkeypatch, capsys, form, quick):
    arguments, errors = FORMS[form]
    documents = {}
    for precision in ("fast", "highest"):
        outputs = ["--json", f"{precision}.json", "--limit", "200"]
        out = run(monkeypatch, capsys, "barrier", *arguments, "--precision", precision, *outputs)
        assert f", precision {precision}\n" in out
        documents[precision] = read(folder / f"{precision}.json")
        assert documents[precision]["provenance"]["precision"] == precision
    fast, highest = documents.values()
    assert fast["barriers"] == highest["barriers"]
    for name in errors:
        fast, highest = fast[name], highest[name]
    assert fast == highest


def test_why_a_precision_did_not_run_is_said(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "barrier", "a.pt", "b.pt", "--precision", "fast", "--json", "out.json")
    assert "precision highest (the evaluation is short)" in out
    assert read(folder / "out.json")["provenance"]["precision"] == "highest"


def test_every_pair_of_a_list_says_its_precision(folder, monkeypatch, capsys, quick):
    run(monkeypatch, capsys, *LIST, "--precision", "fast")
    assert [row["precision"] for row in read(folder / "out.json")["pairs"]] == ["fast"] * 3


@pytest.mark.parametrize(
    ("size", "found"), [("1K", 2**10), ("500M", 500 * 2**20), ("4G", 2**32), ("1.5gb", 1.5 * 2**30), (" 10Kb ", 10240)]
)
def test_sizes_of_memory(size, found):
    assert _bytes(size) == found


def test_memory_reaches_the_evaluation_and_does_not_change_it(folder, monkeypatch, capsys):
    seen, right = [], fastmatch.barrier
    monkeypatch.setattr(fastmatch, "barrier", lambda *given, **o: seen.append(o["memory"]) or right(*given, **o))
    outs = [run(monkeypatch, capsys, "barrier", "a.pt", "b.pt", *more) for more in ([], ["--memory", "20K"])]
    assert seen == [None, 20480]
    assert outs[0] == outs[1]


@pytest.mark.parametrize("paths", [["ab.safetensors"], ["a.pt", "b.pt"]], ids=len)
def test_the_maximum_alone_is_that_of_the_curve(folder, monkeypatch, capsys, paths):
    run(monkeypatch, capsys, "barrier", *paths, "--alphas", "7", "--json", "whole.json")
    out = run(monkeypatch, capsys, "barrier", *paths, "--alphas", "7", "--max-only", "--json", "max.json")
    whole, found = read(folder / "whole.json"), read(folder / "max.json")
    assert found["alphas"] == whole["alphas"]
    assert found["barriers"].keys() == whole["barriers"].keys()
    assert found.get("networks") == whole.get("networks")
    assert found["provenance"]["precision"] == "highest"
    for pair, splits in found["barriers"].items():
        for split, figures in splits.items():
            maximum, curve = figures["loss"], whole["barriers"][pair][split]["loss"]
            assert maximum["linear"] == pytest.approx(curve["linear"], abs=1e-5)
            assert maximum["linear_se"] == pytest.approx(curve["linear_se"], abs=1e-5)
            assert maximum["alpha"] == curve["alpha"]
            assert 0 < maximum["evaluated"] <= maximum["total"] == 7 * (1437 if split == "train" else 360)
            name = split if len(paths) == 2 else f"{pair}, {split}"
            row = next(line for line in out.splitlines() if line.startswith(name))
            assert f"{maximum['linear']:.4f} ± {maximum['linear_se']:.4f}" in row
            assert row.split()[-2:] == [f"{100 * maximum['evaluated'] / maximum['total']:.0f}", "%"]
    assert "largest of 7 alphas, on cpu" in out
