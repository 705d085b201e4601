"""Bad input of the forms of `fastmatch barrier` that take networks or a list of pairs, for test_bad_input.py."""

import json
import shutil
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from fastmatch import networks

PAIRS = ["barrier", "--pairs", "pairs.csv", "--alphas", "3", "--device", "cpu"]


def write_pairs(text="a.pt,b.pt\n"):
    Path("pairs.csv").write_bytes(text if isinstance(text, bytes) else text.encode())


def with_result(**change):
    """A list of pairs, and a result file of such a list with other content."""
    write_pairs()
    options = {"alphas": 3, "bn": "reset", "model": None, "data": None, "data_sha256": None, "limit": 10_000}
    now = {"fastmatch": version("fastmatch"), "torch": torch.__version__, "device": "cpu", "precision": "highest"}
    document = {"options": options, "pairs": [], "provenance": now}
    for name, value in change.items():
        document[name] = {**document[name], **value} if isinstance(value, dict) else value
    Path("out.json").write_text(json.dumps(document))


def of_another_network():
    torch.save(
        {
            "state_dict": networks.build("mlp(64, 9, 10)").state_dict(),
            "fastmatch": {"format": 1, "model": "mlp(64, 9, 10)"},
        },
        "c.pt",
    )


CASES = {
    "too coarse a grid": (None, ["barrier", "a.pt", "b.pt", "a.pt", "--grid", "1"], "grid must be at least 2"),
    "grid of a line": (None, ["barrier", "a.pt", "b.pt", "--grid", "5"], "--grid is for the triangle"),
    "grid of an alignment": (None, ["barrier", "--grid", "5"], "--grid is for the triangle"),
    "grid of a list": (write_pairs, [*PAIRS, "--grid", "5"], "--grid is for the triangle"),
    "alphas of a triangle": (None, ["barrier", "a.pt", "b.pt", "a.pt", "--alphas", "5"], "--alphas is for a line"),
    "four networks": (None, ["barrier", *["a.pt"] * 4], "received 4 networks"),
    **{
        f"memory {size}": (None, ["barrier", "--memory", size], f"--memory {size} is not a size; write a number and K")
        for size in ("500", "0M", "-1G", "many", "1T", "1.5.2G", "nan", "infG")
    },
    "precision of another name": (None, ["barrier", "--precision", "high"], "--precision"),
    "maximum of a list": (write_pairs, [*PAIRS, "--max-only"], "--max-only is for one line"),
    "maximum of a triangle": (None, ["barrier", "a.pt", "b.pt", "a.pt", "--max-only"], "--max-only is for one line"),
    "maximum, drawn": (None, ["barrier", "--max-only", "--plot", "x.png"], "no whole curve; leave it out for x.png"),
    "maximum as a table": (None, ["barrier", "--max-only", "--csv", "x.csv"], "no whole curve; leave it out for x.csv"),
    "maximum, fast": (None, ["barrier", "--max-only", "--precision", "fast"], "leave --precision out"),
    "maximum of one alpha": (None, ["barrier", "--max-only", "--alphas", "1"], "at least 2"),
    "maximum over a checkpoint": (None, ["barrier", "--max-only", "--json", "b.pt"], "is an input"),
    "maximum of another width": (of_another_network, ["barrier", "a.pt", "c.pt", "--max-only"], "does not fit a.pt"),
    "networks and a list": (write_pairs, [*PAIRS, "a.pt"], "--pairs names the networks"),
    "picture of a list": (write_pairs, [*PAIRS, "--plot", "x.png"], "leave it out with --pairs"),
    "corner missing": (None, ["barrier", "a.pt", "b.pt", "none.pt"], "no checkpoint at none.pt"),
    "corner of another width": (of_another_network, ["barrier", "a.pt", "b.pt", "c.pt"], "c.pt does not fit a.pt"),
    "end of another width": (of_another_network, ["barrier", "a.pt", "c.pt"], "c.pt does not fit a.pt"),
    "corner whose checkpoint changed": (
        lambda: shutil.copy("a.pt", "b.pt"),
        ["barrier", "a.pt", "b.pt", "alignment.safetensors"],
        "b.pt has changed since alignment.safetensors",
    ),
    "corner whose reference changed": (
        lambda: shutil.copy("b.pt", "a.pt"),
        ["barrier", "b.pt", "alignment.safetensors"],
        "a.pt has changed since alignment.safetensors",
    ),
    "corner that does not name its checkpoints": (
        None,
        ["barrier", "a.pt", "b.pt", "other.safetensors"],
        "does not name its check",
    ),
    "triangle over a corner": (None, ["barrier", "a.pt", "b.pt", "a.pt", "--csv", "b.pt"], "is an input"),
    "triangle over a checkpoint of a corner": (
        None,
        ["barrier", "a.pt", "alignment.safetensors", "--json", "b.pt"],
        "is an input",
    ),
    "list missing": (None, PAIRS, "no list of pairs at pairs.csv"),
    "list empty": (lambda: write_pairs("\n"), PAIRS, "holds no pairs"),
    "list of single paths": (lambda: write_pairs("a.pt,b.pt\na.pt\n"), PAIRS, "line 2 has 1 paths"),
    "list of triples": (lambda: write_pairs("a.pt,b.pt,a.pt\n"), PAIRS, "line 1 has 3 paths"),
    "list with a gap": (lambda: write_pairs("a.pt,\n"), PAIRS, "line 1 has 1 paths"),
    "list with an open quote": (lambda: write_pairs('a.pt,"b.pt\n'), PAIRS, "is not a list of pairs"),
    "list that is not text": (lambda: write_pairs(b"\xff\xfe\x00"), PAIRS, "is not a list of pairs"),
    "list of what is not there": (lambda: write_pairs("a.pt,b.pt\nb.pt,none.pt\n"), PAIRS, "line 2: no checkpoint or"),
    "list with other networks": (
        lambda: (of_another_network(), write_pairs("c.pt,a.pt\n")),
        [*PAIRS, "--data", "digits"],
        "a.pt does not fit c.pt",
    ),
    "list with too few alphas": (write_pairs, [*PAIRS, "--alphas", "1"], "at least 2"),
    "result over the list": (write_pairs, [*PAIRS, "--csv", "pairs.csv"], "is an input"),
    "result over a checkpoint of the list": (write_pairs, [*PAIRS, "--csv", "b.pt"], "is an input"),
    "result over a checkpoint of an alignment": (
        lambda: write_pairs("a.pt,alignment.safetensors\n"),
        [*PAIRS, "--csv", "b.pt"],
        "is an input",
    ),
    "result that is no JSON": (
        lambda: (write_pairs(), Path("out.json").write_text("{")),
        [*PAIRS, "--json", "out.json"],
        "out.json is not a result of `fastmatch barrier --pairs`",
    ),
    **{
        f"result with {name}": (partial(with_result, **change), [*PAIRS, "--json", "out.json"], message)
        for name, change, message in (
            ("no rows", {"pairs": None}, "is not a result of"),
            ("broken rows", {"pairs": [{"a": "a.pt"}]}, "is not a result of"),
            ("no provenance", {"provenance": None}, "is not a result of"),
            ("other alphas", {"options": {"alphas": 25}}, "made with alphas 25, not 3"),
            ("another bn", {"options": {"bn": "keep"}}, "made with bn keep, not reset"),
            ("other data", {"options": {"data": "moons"}}, "made with data moons, not None"),
            ("another limit", {"options": {"limit": 7}}, "made with limit 7, not 10000"),
            ("an option of later", {"options": {"later": 1}}, "made with later 1, not None"),
            ("another device", {"provenance": {"device": "NVIDIA"}}, "made with device NVIDIA, not cpu"),
            ("another torch", {"provenance": {"torch": "1.0"}}, "made with torch 1.0"),
            ("another precision", {"provenance": {"precision": "fast"}}, "made with precision fast, not highest"),
        )
    },
}
