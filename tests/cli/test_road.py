"""The whole road on the command line: train, align, barrier, inspect, compare."""

import csv
import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

import fastmatch
from fastmatch import checkpoints, networks
from fastmatch.cli import cli
from tests.cli.running import run

MODEL = "mlp(64, 48, 10)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two networks written by `fastmatch train`."""
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate("ab"):
        arguments = [
            "train",
            MODEL,
            "--data",
            "digits",
            "--epochs",
            "8",
            "--seed",
            str(seed),
            "-o",
            str(folder / f"{name}.pt"),
        ]
        cli.main(arguments, standalone_mode=False)
    return folder


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    for name in "ab":
        shutil.copy(trained / f"{name}.pt", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_two_commands_work_exactly_as_documented(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "align", "a.pt", "b.pt", "--method", "activation")
    assert "the same function" in out
    assert (folder / "alignment.safetensors").exists()
    out = run(monkeypatch, capsys, "barrier", "--alphas", "25")
    assert "25 alphas, 1437 train examples and 360 test examples" in out


def test_results_go_to_json_csv_and_a_picture(folder, monkeypatch, capsys):
    run(
        monkeypatch,
        capsys,
        "align",
        "a.pt",
        "b.pt",
        "--method",
        "weight",
        "--json",
        "align.json",
        "--apply",
        "aligned.safetensors",
    )
    outputs = ["--json", "barrier.json", "--csv", "barrier.csv", "--plot", "barrier.png"]
    run(monkeypatch, capsys, "barrier", "--alphas", "5", *outputs)
    align, barrier = (json.loads((folder / f"{name}.json").read_text()) for name in ("align", "barrier"))
    assert align["method"] == "weight"
    assert {"max_abs", "max_rel"} <= align["certificate"].keys()
    assert align["groups"][0].keys() == {
        "name", "size", "objective_before", "objective_after", "fixed_points", "dead_units"
    }  # fmt: skip
    assert barrier["alphas"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    for pair in ("unaligned", "aligned"):
        for split, examples in (("train", 1437), ("test", 360)):
            assert barrier["curves"][pair][split]["examples"] == examples
            for quantity in ("loss", "error"):
                assert len(barrier["curves"][pair][split][quantity]) == 5
                assert {"linear", "mean", "max"} <= barrier["barriers"][pair][split][quantity].keys()
    assert (
        barrier["barriers"]["aligned"]["test"]["loss"]["linear"]
        < barrier["barriers"]["unaligned"]["test"]["loss"]["linear"]
    )
    assert {"fastmatch", "torch", "device", "precision", "seed", "command"} <= barrier["provenance"].keys()
    rows = list(csv.DictReader((folder / "barrier.csv").open()))
    assert len(rows) == 20
    assert float(rows[0]["loss"]) == barrier["curves"]["unaligned"]["train"]["loss"][0]
    assert (folder / "barrier.png").read_bytes().startswith(b"\x89PNG")


def test_results_name_the_device_they_were_computed_on(folder, monkeypatch, capsys):
    train = ["train", MODEL, "--data", "digits", "--limit", "100", "--epochs", "1", "-o", "c.pt"]
    for number, command in enumerate((train, ["align", "a.pt", "b.pt"], ["barrier", "--alphas", "3"])):
        out = run(monkeypatch, capsys, *command, "--device", "cpu", "--json", f"{number}.json")
        assert "on cpu" in out
        assert json.loads((folder / f"{number}.json").read_text())["provenance"]["device"] == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", ["weight", "activation"])
def test_a_gpu_finds_what_the_cpu_finds(method, folder, monkeypatch, capsys):
    results = {}
    for device in ("cpu", "cuda"):
        names = {name: f"{device}-{name}.json" for name in ("align", "barrier")}
        options = ["--device", device, "-o", f"{device}.safetensors", "--apply", f"{device}.pt"]
        run(monkeypatch, capsys, "align", "a.pt", "b.pt", "--method", method, *options, "--json", names["align"])
        barrier = ["barrier", f"{device}.safetensors", "--alphas", "5", "--device", device, "--json", names["barrier"]]
        run(monkeypatch, capsys, *barrier)
        results[device] = {name: json.loads((folder / path).read_text()) for name, path in names.items()}
    here, there = results["cpu"], results["cuda"]
    assert there["barrier"]["provenance"]["device"] == torch.cuda.get_device_name()
    assert there["align"]["objective_after"] == pytest.approx(here["align"]["objective_after"], rel=1e-3)
    found, expected = (side["barrier"]["curves"]["unaligned"]["test"]["loss"] for side in (there, here))
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_applied_checkpoint_is_the_permuted_network(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", "--apply", "c.pt")
    permutation = fastmatch.Permutation.load("alignment.safetensors")
    expected, written = permutation.apply(fastmatch.load("b.pt").state_dict), fastmatch.load("c.pt")
    for name, tensor in expected.items():
        assert torch.equal(written.state_dict[name], tensor)
    assert written.model == MODEL
    out = run(monkeypatch, capsys, "align", "a.pt", "c.pt", "-o", "again.safetensors")
    assert "next: fastmatch barrier again.safetensors --alphas 25" in out
    assert "converged after 1 sweep" in out


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bare_state_dicts_work_with_model_and_are_recognised_without(folder, monkeypatch, capsys, suffix):
    for name in "ab":
        state = fastmatch.load(f"{name}.pt").state_dict
        torch.save(state, f"bare-{name}.pt") if suffix == ".pt" else save_file(state, f"bare-{name}.safetensors")
    pair = [f"bare-a{suffix}", f"bare-b{suffix}"]
    run(monkeypatch, capsys, "align", *pair, "--model", MODEL, "--data", "digits", "--method", "activation")
    run(monkeypatch, capsys, "barrier", "--alphas", "3")
    out = run(monkeypatch, capsys, "align", *pair)
    assert "random inputs" in out


def test_a_user_factory_runs_only_when_the_command_line_names_it(folder, monkeypatch, capsys):
    (folder / "nets.py").write_text(
        f"from fastmatch import networks\ndef net():\n    return networks.build({MODEL!r})\n"
    )
    options = ["--model", "nets.py:net", "--data", "digits"]
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", *options)
    monkeypatch.setattr("sys.argv", ["fastmatch", "barrier", "--alphas", "3"])
    run(monkeypatch, capsys, "barrier", "--alphas", "3", *options)
    metadata = fastmatch.Permutation.load("alignment.safetensors").metadata
    assert metadata["model"] == "nets.py:net"
    unset = dict.fromkeys(("similarity", "restarts", "steps", "effort", "start", "limit", "spec"))
    assert metadata["options"] == unset | {"method": "auto", "seed": 0, "freeze": [], "tracing": "export"}


def test_weight_matching_begins_with_another_alignment(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", "--method", "activation", "--json", "first.json")
    options = "--method", "weight", "--start", "alignment.safetensors", "-o", "better.safetensors"
    out = run(monkeypatch, capsys, "align", "a.pt", "b.pt", *options)
    assert "wrote better.safetensors" in out
    first, second = (fastmatch.load(name).state_dict for name in ("a.pt", "b.pt"))
    found = fastmatch.Permutation.load("better.safetensors")
    assert found.metadata["options"]["start"] == "alignment.safetensors"
    again = fastmatch.match_weights(found.spec, first, second, start=found)
    assert again.permutation == found
    assert again.sweeps == 1


def test_an_alignment_moves_with_its_checkpoints(folder, monkeypatch, capsys, tmp_path_factory):
    run(monkeypatch, capsys, "align", "a.pt", "b.pt")
    moved = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(folder, moved)
    for name in "ab":
        (folder / f"{name}.pt").unlink()
    run(monkeypatch, capsys, "barrier", str(moved / "alignment.safetensors"), "--alphas", "3")


def test_inspect_lists_groups_pins_and_a_certificate(folder, monkeypatch, capsys):
    out = run(monkeypatch, capsys, "inspect", "a.pt", "--json", "inspect.json")
    assert "linear1.weight[0], linear1.bias[0], linear2.weight[1]" in out
    assert "output of the network" in out
    result = json.loads((folder / "inspect.json").read_text())
    assert result["groups"] == [
        {
            "name": "linear1",
            "size": 48,
            "base": [],
            "axes": ["linear1.weight[0]", "linear1.bias[0]", "linear2.weight[1]"],
        }
    ]
    assert {"axis": "linear1.weight[1]", "reason": "input of the network"} in result["pinned"]
    assert result["certificate"]["passed"]


def test_compare_counts_equal_places(folder, monkeypatch, capsys):
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", "-o", "w.safetensors")
    run(monkeypatch, capsys, "align", "a.pt", "b.pt", "--method", "activation", "-o", "x.safetensors")
    run(monkeypatch, capsys, "compare", "w.safetensors", "w.safetensors", "--json", "same.json")
    assert json.loads((folder / "same.json").read_text())["fixed_points"] == 48
    run(monkeypatch, capsys, "compare", "w.safetensors", "x.safetensors", "--json", "other.json")
    first, second = (fastmatch.Permutation.load(f"{name}.safetensors") for name in "wx")
    assert json.loads((folder / "other.json").read_text())["fixed_points"] == sum(first.fixed_points(second).values())


def test_training_is_reproducible_and_keeps_a_trajectory_to_spawn_from(folder, monkeypatch, capsys):
    train = ["train", MODEL, "--data", "digits", "--limit", "300", "--epochs", "2"]
    run(monkeypatch, capsys, *train, "--save-epochs", "0,1", "-o", "run.pt")
    run(monkeypatch, capsys, *train, "-o", "same.pt")
    run(monkeypatch, capsys, *train, "--order-seed", "5", "-o", "other.pt")
    states = {name: checkpoints.read(f"{name}.pt").state_dict["linear1.weight"] for name in ("run", "same", "other")}
    assert torch.equal(states["run"], states["same"])
    assert not torch.equal(states["run"], states["other"])
    steps = sorted(path.name for path in (folder / "run").iterdir())
    assert steps == ["step-000000.pt", "step-000003.pt"]
    start, card = checkpoints.read("run/step-000000.pt").state_dict, checkpoints.read("run/step-000003.pt").card
    assert torch.equal(start["linear1.weight"], _initial())
    assert (card.model, card.data, card.step, card.epoch) == (MODEL, "digits", 3, 1)
    run(
        monkeypatch,
        capsys,
        "train",
        "--from",
        "run/step-000003.pt",
        "--order-seed",
        "9",
        "--epochs",
        "1",
        "-o",
        "child.pt",
    )
    assert checkpoints.read("child.pt").card.model == MODEL


def _initial():
    from fastmatch import training

    return training.initialise(MODEL, "default", 0).state_dict()["linear1.weight"]


@pytest.mark.parametrize("command", [None, *cli.commands])
def test_every_help_shows_an_example(command, monkeypatch, capsys):
    out = run(monkeypatch, capsys, *([command] if command else []), "--help")
    assert "Example:\n" in out
    assert f"fastmatch {command or 'align'}" in out.split("Example:")[1]


def test_networks_of_one_model_string_share_a_spec():
    first, second = (networks.build(MODEL) for _ in range(2))
    inputs = (torch.randn(2, 64),)
    assert fastmatch.trace(first, inputs).digest == fastmatch.trace(second, inputs).digest
