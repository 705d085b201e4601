"""Bad input: one clear line, exit code 2, no traceback, and no file created or changed."""

import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fastmatch import Permutation, checkpoints, networks, trace
from fastmatch.checkpoints import Card
from fastmatch.cli import main
from tests.cli import barrier_forms

MODEL, ALIGN, PROGRAM = "mlp(64, 8, 10)", ["align", "a.pt", "b.pt"], ["align", "net.pt2", "net.pt2"]


class Payload:
    """Unpickled, it creates a folder that must never appear."""

    def __reduce__(self):
        return os.mkdir, (str(Path("marker").resolve()),)


def network(model=MODEL, seed=0):
    torch.manual_seed(seed)
    return networks.build(model).eval()


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Two checkpoints, an exported program and an alignment, none of them trained."""
    folder = tmp_path_factory.mktemp("good")
    for seed, name in enumerate("ab"):
        checkpoints.write(folder / f"{name}.pt", network(seed=seed).state_dict(), Card(model=MODEL, data="digits"))
    torch.export.save(torch.export.export(network(), (torch.randn(2, 64),)), folder / "net.pt2")
    spec = trace(network(), (torch.randn(2, 64),))
    origin = {name: {"path": f"{name}.pt", "sha256": checkpoints.read(folder / f"{name}.pt").sha256} for name in "ab"}
    metadata = {**origin, "model": MODEL, "data": "digits", "match": {"seed": 0}}
    Permutation(spec, {}, metadata).save(folder / "alignment.safetensors")
    return folder


@pytest.fixture
def folder(good, tmp_path, monkeypatch):
    shutil.copytree(good, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTMATCH_DATA", raising=False)
    return tmp_path


def state(change=None, model=MODEL):
    result = network(model).state_dict()
    if change is not None:
        name, value = change
        result[name].view(-1)[0] = value
    return result


def truncate(name):
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: len(content) // 2])


def with_card(**card):
    torch.save({"state_dict": state(), "fastmatch": {"format": 1, **card}}, "a.pt")


def rewrite_program(member, content):
    """The program with one member replaced."""
    with zipfile.ZipFile("net.pt2") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile("net.pt2", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, content(data) if name.endswith(member) else data)


def pickled(_):
    torch.save((Payload(),), "payload.tmp")
    data = Path("payload.tmp").read_bytes()
    Path("payload.tmp").unlink()
    return data


def evaluated(data):
    """A size of the input becomes an expression that sympy would evaluate."""
    program = json.loads(data)
    size = {"as_expr": {"expr_str": "__import__('os').mkdir('marker')", "hint": {"as_int": 2}}}
    for value in program["graph_module"]["graph"]["tensor_values"].values():
        value["sizes"][0] = size
    return json.dumps(program).encode()


def called(data):
    """The first operation becomes a function of the operating system."""
    program = json.loads(data)
    node = program["graph_module"]["graph"]["nodes"][0]
    node["target"], node["inputs"] = "torch.os.mkdir", [{"name": "", "arg": {"as_string": "marker"}, "kind": 1}]
    return json.dumps(program).encode()


def opaque(data):
    """A weight becomes a pickled object."""
    config = json.loads(data)
    next(iter(config["config"].values())).update(path_name="opaque_obj_0", use_pickle=True)
    return json.dumps(config).encode()


def edit_alignment(change):
    """The alignment with other metadata."""
    permutation = Permutation.load("alignment.safetensors")
    Permutation(permutation.spec, {}, {**permutation.metadata, **change}).save("alignment.safetensors")


PROGRAMS = {
    "sample inputs": ("sample_inputs/model.pt", pickled),
    "expression": ("models/model.json", evaluated),
    "operator": ("models/model.json", called),
}


def wrong_data():
    images = np.zeros((20, 28, 28), np.uint8)
    labels = np.arange(20) % 10
    np.savez("wide.npz", train_images=images, train_labels=labels, test_images=images, test_labels=labels)


CASES = {
    "missing": (None, ["align", "nowhere.pt", "b.pt"], "no checkpoint at nowhere.pt"),
    "folder": (lambda: Path("a").mkdir(), ["align", "a", "b.pt"], "is a folder"),
    "empty": (lambda: Path("a.pt").write_bytes(b""), ALIGN, "a.pt is empty"),
    "truncated pt": (lambda: truncate("a.pt"), ALIGN, "a.pt"),
    "truncated safetensors": (
        lambda: (safetensors.torch.save_file(state(), "a.safetensors"), truncate("a.safetensors")),
        ["align", "a.safetensors", "b.pt"],
        "truncated or not a safetensors",
    ),
    "text": (lambda: Path("a.pt").write_text("weights"), ALIGN, "not a PyTorch checkpoint"),
    "unknown suffix": (
        lambda: shutil.copy("a.pt", "a.onnx"),
        ["align", "a.onnx", "b.pt"],
        "use .pt, .safetensors or .pt2",
    ),
    "pickle with code": (lambda: torch.save({"w": Payload()}, "a.pt"), ALIGN, "holds code"),
    **{
        f"pt2 with a payload in {place}": (lambda tamper=tamper: rewrite_program(*tamper), PROGRAM, "holds code")
        for place, tamper in PROGRAMS.items()
    },
    "pt2 with a custom object": (
        lambda: rewrite_program("model_weights_config.json", opaque),
        PROGRAM,
        "holds code (the pickled object opaque_obj_0)",
    ),
    "truncated pt2": (lambda: truncate("net.pt2"), PROGRAM, "net.pt2 is truncated"),
    "pt2 that is text": (lambda: Path("net.pt2").write_text("weights"), PROGRAM, "not a torch.export program"),
    "whole module": (lambda: torch.save(network(), "a.pt"), ALIGN, "holds code"),
    "no tensors": (lambda: torch.save({}, "a.pt"), ALIGN, "no tensors"),
    "card with a factory": (lambda: with_card(model="evil.py:net"), ALIGN, "names code"),
    "card with a data factory": (lambda: with_card(model=MODEL, data="evil.py:load"), ALIGN, "names code"),
    "card with an unknown network": (lambda: with_card(model="perceptron(3)"), ALIGN, "--model"),
    "newer card": (lambda: with_card(format=99), ALIGN, "newer"),
    "NaN weights": (
        lambda: torch.save(state(("linear1.weight", torch.nan)), "a.pt"),
        ALIGN,
        "'linear1.weight' holds NaN",
    ),
    "infinite weights": (
        lambda: torch.save(state(("linear2.bias", torch.inf)), "b.pt"),
        ALIGN,
        "'linear2.bias' holds NaN or",
    ),
    "other architecture": (lambda: torch.save(state(model="mlp(64, 8, 8, 10)"), "b.pt"), ALIGN, "b.pt"),
    "other width": (lambda: torch.save(state(model="mlp(64, 9, 10)"), "b.pt"), ALIGN, "one architecture and width"),
    "model that does not fit": (None, [*ALIGN, "--model", "mlp(64, 9, 10)"], "does not fit mlp(64, 9, 10)"),
    "unknown model": (None, [*ALIGN, "--model", "perceptron(64)"], "perceptron"),
    "code as a model": (None, [*ALIGN, "--model", "__import__('os').mkdir('marker')"], "cannot read"),
    "malformed model": (None, [*ALIGN, "--model", "mlp(64,"], "mlp(64,"),
    "missing factory": (None, [*ALIGN, "--model", "nets.py:net"], "nets.py"),
    "unknown data": (None, [*ALIGN, "--data", "imagenet"], "imagenet"),
    "data not found": (None, [*ALIGN, "--data", "mnist"], "--data-dir"),
    "data of another shape": (wrong_data, [*ALIGN, "--data", "wide.npz"], "does not take"),
    "limit": (None, [*ALIGN, "--method", "weight", "--limit", "0"], "--limit"),
    "restarts": (None, [*ALIGN, "--restarts", "0"], "at least 1"),
    "restarts of activations": (None, [*ALIGN, "--method", "activation", "--restarts", "2"], "takes no restarts"),
    "start of activations": (
        None,
        [*ALIGN, "--method", "activation", "--start", "other.safetensors"],
        "takes no start",
    ),
    "start missing": (None, [*ALIGN, "--start", "none.safetensors"], "no alignment at none.safetensors"),
    "start is a checkpoint": (None, [*ALIGN, "--start", "a.pt"], "a.pt is not an alignment"),
    "start of another network": (None, [*ALIGN, "--start", "other.safetensors"], "other groups than a and b"),
    "output is the start": (None, [*ALIGN, "--start", "alignment.safetensors"], "is an input"),
    "start without a name": (None, [*ALIGN, "--start", ""], "no alignment at ."),
    "negative seed": (None, [*ALIGN, "--seed", "-1"], "--seed"),
    "too large a seed": (None, ["train", MODEL, "--data", "digits", "--seed", "9" * 30], "--seed"),
    "unknown option": (None, [*ALIGN, "--methods", "weight"], "--methods"),
    "unknown method": (None, [*ALIGN, "--method", "magic"], "magic"),
    "missing argument": (None, ["align", "a.pt"], "at least two checkpoints"),
    "output folder missing": (None, [*ALIGN, "-o", "none/x.safetensors"], "no folder none"),
    "output is a folder": (lambda: Path("out").mkdir(), [*ALIGN, "-o", "out"], "is a folder"),
    "output is the checkpoint": (None, [*ALIGN, "--apply", "b.pt"], "is an input"),
    "output is the alignment": (None, ["barrier", "--json", "alignment.safetensors"], "is an input"),
    "output is the parent": (None, ["train", "--from", "a.pt", "-o", "a.pt"], "is an input"),
    "output twice": (None, [*ALIGN, "-o", "x", "--json", "x"], "another result"),
    "output name too long": (None, [*ALIGN, "-o", "x" * 300], "too long"),
    "trajectory is a file": (
        lambda: Path("run").touch(),
        ["train", MODEL, "--data", "digits", "--save-epochs", "0", "-o", "run.pt"],
        "it is a file",
    ),
    "output of another kind": (None, [*ALIGN, "--apply", "b.onnx"], ".pt or .safetensors"),
    "alignment missing": (None, ["barrier", "none.safetensors"], "no alignment at none.safetensors"),
    "alignment is a checkpoint": (None, ["barrier", "a.pt"], "a.pt is not an alignment"),
    "checkpoint is an alignment": (None, ["align", "alignment.safetensors", "b.pt"], "is an alignment"),
    "alignment for other checkpoints": (lambda: shutil.copy("a.pt", "b.pt"), ["barrier"], "b.pt has changed since"),
    "alignment without digest": (
        lambda: edit_alignment({"a": {"path": "a.pt"}}),
        ["barrier"],
        "does not name its check",
    ),
    "alignment of a model that is no text": (
        lambda: edit_alignment({"model": 3}),
        ["barrier"],
        "does not name its check",
    ),
    "alignment without match": (lambda: edit_alignment({"match": None}), ["barrier"], "does not name its check"),
    "alignment without checkpoints": (lambda: Path("b.pt").unlink(), ["barrier"], "no checkpoint at b.pt"),
    "too few alphas": (None, ["barrier", "--alphas", "1"], "at least 2"),
    **barrier_forms.CASES,
    "picture of another kind": (None, ["barrier", "--plot", "x.gif"], ".png, .pdf, .svg"),
    "fixed batch": (None, ["align", "net.pt2", "net.pt2", "--data", "digits"], "batches of 2 only"),
    "program as a parent": (None, ["train", "--from", "net.pt2", "-o", "x.pt"], "cannot be trained"),
    "train without data": (None, ["train", MODEL], "--data"),
    "train diverges": (None, ["train", MODEL, "--data", "digits", "--optimizer", "sgd", "--lr", "1e9"], "lower"),
    "train on labels out of range": (None, ["train", "mlp(64, 3)", "--data", "digits"], "10 classes"),
    "unknown device": (None, [*ALIGN, "--device", "tpu"], "device 'tpu' is unknown; choose auto, cpu, cuda"),
    "align on no such device": (None, [*ALIGN, "--device", "cuda:999"], "device 'cuda:999' is not available"),
    "barrier on no such device": (None, ["barrier", "--device", "cuda:999"], "device 'cuda:999' is not available"),
    "train on no such device": (
        None,
        ["train", MODEL, "--data", "digits", "--device", "cuda:999", "-o", "new.pt"],
        "device 'cuda:999' is not available",
    ),
    "compare other networks": (None, ["compare", "alignment.safetensors", "other.safetensors"], "different groups"),
}


def snapshot():
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_gets_one_line_and_touches_nothing(case, folder, monkeypatch, capsys):
    spoil, arguments, message = CASES[case]
    Permutation.identity(trace(network("mlp(64, 4, 4, 10)"), (torch.randn(2, 64),))).save("other.safetensors")
    if spoil is not None:
        spoil()
    before = snapshot()
    monkeypatch.setattr("sys.argv", ["fastmatch", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    assert stop.value.code == 2, captured
    assert captured.err.startswith("Error: ")
    assert captured.err.count("\n") == 1, captured.err
    assert message in captured.err
    assert captured.out == ""
    assert snapshot() == before
    assert not Path("marker").exists()


def test_the_payload_of_a_pickle_is_real(folder):
    torch.save({"w": Payload()}, "a.pt")
    torch.load("a.pt", weights_only=False)
    assert Path("marker").exists()


@pytest.mark.parametrize("place", ["sample inputs", "expression"])  # torch itself refuses the operator
def test_the_payloads_of_programs_are_real(folder, place):
    rewrite_program(*PROGRAMS[place])
    with suppress(Exception):  # whatever becomes of the program afterwards
        torch.export.load("net.pt2").module()(torch.randn(2, 64))
    assert Path("marker").exists()


def test_no_argument_at_all_shows_the_help(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fastmatch"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
    assert "Example:" in capsys.readouterr().out


def test_a_gpu_that_is_too_small_gets_one_line(folder, monkeypatch, capsys):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr("fastmatch.match", full)
    before = snapshot()
    monkeypatch.setattr("sys.argv", ["fastmatch", *ALIGN])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "Error: CUDA out of memory; use --device cpu\n"
    assert snapshot() == before


def test_a_full_disk_leaves_the_old_file_and_no_other(folder, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    before = snapshot()
    monkeypatch.setattr("sys.argv", ["fastmatch", *ALIGN])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert "No space left on device" in capsys.readouterr().err
    assert snapshot() == before
