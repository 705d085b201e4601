"""The studies: each has sizes that its function takes, a row in their README, and a small run that is kept."""

import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

from studies import run_all
from studies.study import Report, mean_std, slug

FOLDER = Path(run_all.FOLDER)
README = (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("name", run_all.names())
def test_a_study_takes_both_its_sizes_and_says_what_it_shows(name):
    module = importlib.import_module(f"studies.{name}")
    for sizes in (module.SMALL, module.FULL):
        inspect.signature(module.main).bind(Report(name, FOLDER), **sizes)
    assert re.search(r"(figure|table|theorem|section)s? ?[A-Z]?\d", module.__doc__, re.IGNORECASE)


@pytest.mark.parametrize("name", run_all.names())
def test_a_study_has_a_row_and_a_small_run_with_its_commit(name):
    assert f"`{name}`" in README
    document = json.loads((FOLDER / "results" / f"{name}.json").read_text())
    assert re.fullmatch(r"[0-9a-f]{40}", document["provenance"]["commit"])
    assert document["provenance"]["size"] == "small"
    text = (FOLDER / "results" / f"{name}.md").read_text()
    assert document["provenance"]["commit"] in text
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", text):
        assert (FOLDER / "results" / picture).read_bytes().startswith(b"\x89PNG")


def test_every_script_named_in_the_readme_is_there():
    assert set(re.findall(r"`((?:entezari|kalaivanan|sharma|zhou)_\w+)`", README)) == set(run_all.names())


def test_a_report_holds_its_parts_in_order(tmp_path):
    report = Report("some", tmp_path)
    report.table("Losses", ["width", "loss"], [(4, 0.123456), (8, float("nan"))])
    assert report.picture("curve", "A curve.") == tmp_path / "some-curve.png"
    report.say("It falls.")
    report.write("What it shows.", "small", {"widths": (4, 8)}, 1.5)
    text = (tmp_path / "some.md").read_text()
    places = [text.index(part) for part in ("What it shows.", "| 4 | 0.1235 |", "some-curve.png", "It falls.", "4, 8")]
    assert places == sorted(places)
    figures = json.loads((tmp_path / "some.json").read_text())["figures"]
    assert figures == {"Losses": [{"width": 4, "loss": 0.123456}, {"width": 8, "loss": None}]}


def test_small_helpers():
    assert mean_std([1.0, 3.0], 2) == "2.00 ± 1.41"
    assert slug("MLP, one layer") == "MLP-one-layer"
