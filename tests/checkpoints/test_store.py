import os
import pathlib
import pickle

import pytest
import safetensors.torch
import torch

from fastmatch import checkpoints
from fastmatch.checkpoints import Card
from fastmatch.errors import CheckpointError, OutputError
from fastmatch.files import sha256

SUFFIXES = [".pt", ".safetensors"]
STATE = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(2, dtype=torch.float16),
    "count": torch.tensor(3),
    "mask": torch.tensor([True, False]),
    "none": torch.zeros(0, 2),
}


class Payload:
    """Unpickled, it creates a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.touch, (self.marker,)


def same(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("card", [None, Card(model="mlp(3, 2)", step=4, extra={"lr": 0.1})], ids=["bare", "card"])
def test_what_is_written_is_read(tmp_path, suffix, card):
    path = tmp_path / f"a{suffix}"
    checkpoints.write(path, STATE, card)
    stored = checkpoints.read(path)
    assert same(stored.state_dict, STATE)
    assert (stored.card, stored.program, stored.path, stored.sha256) == (card, None, path, sha256(path))


def test_a_bare_checkpoint_is_a_plain_state_dict_for_torch(tmp_path):
    checkpoints.write(tmp_path / "a.pt", STATE)
    assert same(torch.load(tmp_path / "a.pt", weights_only=True), STATE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_checkpoint_is_the_same_file(tmp_path, suffix):
    for name in ("a", "b"):
        checkpoints.write(tmp_path / f"{name}{suffix}", STATE, Card(step=1))
    assert sha256(tmp_path / f"a{suffix}") == sha256(tmp_path / f"b{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tied_and_strided_tensors_are_stored_one_by_one(tmp_path, suffix):
    base = torch.randn(50, 60)
    state = {"a": base, "tied": base, "transposed": base.T, "row": base[3], "parameter": torch.nn.Parameter(base[:2])}
    path = tmp_path / f"a{suffix}"
    checkpoints.write(path, {"row": state["row"]})
    assert path.stat().st_size < base.nbytes
    checkpoints.write(path, state)
    assert same(checkpoints.read(path).state_dict, state)


def test_a_state_dict_of_old_torch_is_read(tmp_path):
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert same(checkpoints.read(tmp_path / "a.pt").state_dict, STATE)


@pytest.mark.parametrize("name", ["a.bin", "a", "a.pt2"])
def test_other_suffixes_are_not_written(tmp_path, name):
    with pytest.raises(CheckpointError, match=r"ends in \.pt or \.safetensors"):
        checkpoints.write(tmp_path / name, STATE)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_failed_write_leaves_what_stood_there(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a{suffix}"
    checkpoints.write(path, STATE)
    before = path.read_bytes()

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        checkpoints.write(path, {"w": torch.ones(1)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def code(path):
    torch.save({"w": torch.ones(1), "x": Payload(path.parent / "marker")}, path)


def old_code(path):
    path.write_bytes(pickle.dumps(Payload(path.parent / "marker"), protocol=2))


def code_in_card(path):
    torch.save({"state_dict": STATE, "fastmatch": Payload(path.parent / "marker")}, path)


def truncated(path):
    checkpoints.write(path, STATE)
    path.write_bytes(path.read_bytes()[:-40])


def damaged(path):
    """One letter of the key that its tensor is stored under is another."""
    torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    head, mark, tail = path.read_bytes().rpartition(b"q\x01a.")
    path.write_bytes(head[:-1] + b"x" + mark + tail)


def not_finite(value):
    return lambda path: checkpoints.write(path, {"fine": torch.ones(2), "layer.weight": torch.tensor([1.0, value])})


BAD = {
    "missing": ("a.pt", lambda path: None, "no checkpoint at"),
    "folder": ("a.pt", lambda path: path.mkdir(), "is a folder"),
    "empty": ("a.pt", lambda path: path.touch(), "is empty"),
    "empty safetensors": ("a.safetensors", lambda path: path.touch(), "is empty"),
    "text": ("a.pt", lambda path: path.write_text("hello world"), "not a PyTorch checkpoint"),
    "text safetensors": ("a.safetensors", lambda path: path.write_text("hello world"), "not a safetensors file"),
    "zeros": ("a.pt", lambda path: path.write_bytes(bytes(99)), "not a PyTorch checkpoint"),
    "truncated": ("a.pt", truncated, "truncated"),
    "truncated safetensors": ("a.safetensors", truncated, "truncated"),
    "damaged": ("a.pt", damaged, "truncated or not"),
    "suffix": ("a.bin", lambda path: path.write_bytes(b"x"), "unknown kind of checkpoint '.bin'"),
    "code": ("a.pt", code, "holds code or objects"),
    "old code": ("a.pt", old_code, "holds code or objects"),
    "code in card": ("a.pt", code_in_card, "holds code or objects"),
    "module": ("a.pt", lambda path: torch.save(torch.nn.Linear(2, 2), path), "holds code or objects"),
    "script": ("a.pt", lambda path: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path), "not a PyTorch"),
    "tensor": ("a.pt", lambda path: torch.save(torch.ones(2), path), "holds a Tensor, not a state dict"),
    "no tensors": ("a.pt", lambda path: torch.save({}, path), "holds no tensors"),
    "number": ("a.pt", lambda path: torch.save({"w": 3.0}, path), "'w' is a float, not a tensor"),
    "name": ("a.pt", lambda path: torch.save({3: torch.ones(1)}, path), "3 is a Tensor"),
    "complex": ("a.pt", lambda path: torch.save({"w": torch.ones(1) * 1j}, path), "'w' is torch.complex64"),
    "sparse": ("a.pt", lambda path: torch.save({"w": torch.eye(2).to_sparse()}, path), "sparse_coo"),
    "meta": ("a.pt", lambda path: torch.save({"w": torch.ones(1, device="meta")}, path), "meta"),
    "NaN": ("a.pt", not_finite(float("nan")), "'layer.weight' holds NaN or infinite weights"),
    "infinite": ("a.safetensors", not_finite(float("-inf")), "'layer.weight' holds NaN or infinite weights"),
    "card": ("a.pt", lambda path: torch.save({"state_dict": STATE, "fastmatch": {"format": 9}}, path), "newer"),
    "card text": (
        "a.safetensors",
        lambda path: safetensors.torch.save_file(STATE, path, {"fastmatch": "{"}),
        "not a safetensors file",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_bad_files_are_refused_in_one_line_and_run_nothing(tmp_path, case):
    name, make, message = BAD[case]
    make(tmp_path / name)
    with pytest.raises(CheckpointError) as refusal:
        checkpoints.read(tmp_path / name)
    text = str(refusal.value)
    assert message in text
    assert str(tmp_path / name) in text
    assert "\n" not in text
    assert not (tmp_path / "marker").exists()


def test_the_payload_of_these_tests_works(tmp_path):
    pickle.loads(pickle.dumps(Payload(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


def test_code_stays_refused_where_the_environment_allows_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    code(tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="holds code"):
        checkpoints.read(tmp_path / "a.pt")
    assert not (tmp_path / "marker").exists()
