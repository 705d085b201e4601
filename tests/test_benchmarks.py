"""The benchmark runner, end to end at a size that takes seconds; its figures are not judged here."""

from __future__ import annotations

import json

import pytest

from benchmarks import memory, report, run, search, timing, trained

HEAD = {"suite", "date", "commit", "dirty", "device", "cpu", "cores", "data", "versions", "rows"}


@pytest.fixture
def measure(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTMATCH_DATA", raising=False)
    monkeypatch.setattr(trained, "CACHE", tmp_path / "networks")
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.syspath_prepend(str(tmp_path))  # puts back what the runner adds
    trained.data.cache_clear()

    def measure(suite, *options):
        assert run.main([suite, *options, "--output", str(tmp_path / "results")]) == 0
        return json.loads((tmp_path / "results" / f"{suite}.json").read_text())

    yield measure
    trained.data.cache_clear()


def test_solvers_are_compared_on_matrices_of_trained_networks(measure, tmp_path, capsys):
    result = measure("assignment", "--sizes", "24", "--only", "*2*")
    assert result.keys() == HEAD
    assert result["data"] == "digits"
    assert [row["case"] for row in result["rows"]] == [
        "weights 2",
        "weights 2, later",
        "activations 2",
        "correlations 2",
    ]
    later = result["rows"][1]
    assert later["certified"]
    assert later["agrees"]
    assert {"scipy", "fastmatch", "fastmatch warm"} <= later["times"].keys()
    assert later["speedup"]["fastmatch warm/scipy"] > 0
    assert len(later["times"]["scipy"]["cpu"]) == timing.ROUNDS[0]
    assert len(list((tmp_path / "networks").iterdir())) == 2
    assert "fastmatch warm/scipy" in capsys.readouterr().out


def test_weight_matching_is_compared_with_the_plain_algorithm(measure):
    (row,) = measure("weights", "--only", "ResNet-20 x1")["rows"]
    assert row["agrees"]
    assert row["sweeps"] == row["plain_sweeps"] >= 5
    assert row["objective"] == pytest.approx(row["plain_objective"])
    assert row["times"].keys() == {"plain", "fastmatch"}


def test_batches_and_memory_have_their_figures(measure):
    (batch,) = measure("batch", "--sizes", "40")["rows"]
    assert batch["agrees"]
    assert batch["times"].keys() == {"1 thread", "2 threads"}
    (row,) = memory.measure(["ResNet-20 x1"])
    assert row["checkpoints_mb"] < row["resident_before_mb"] < row["peak_mb"]


def test_a_suite_that_is_not_there_is_refused(measure):
    with pytest.raises(SystemExit, match="unknown suite 'wieghts'"):
        measure("wieghts")


def test_goals_that_most_searches_miss_are_not_reached(tmp_path):
    assert search._reached((1.0, 3.0, 4.0), [0.1, 0.2, 0.3], 3.0) == 0.2
    missed = search._reached((1.0, 2.0), [0.1, 0.2], 3.0)
    assert search._median_reached([0.5, 0.2, missed]) == 0.5
    row = {"case": "x", "reach_plain_s": search._median_reached([0.5, missed, missed])}
    report.write(tmp_path / "found.json", {}, [row])
    assert json.loads((tmp_path / "found.json").read_text(), parse_constant=pytest.fail)["rows"] == [row]
    assert "not reached" in report.table([row])
