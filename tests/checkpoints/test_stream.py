"""Tensors read one by one from safetensors files, and from shards with an index."""

from __future__ import annotations

import json

import pytest
import torch

from fastmatch import Permutation, Stream, checkpoints, match_weights, trace
from fastmatch.errors import CheckpointError
from tests.problems import build, example

MODEL = "resnet20(width=1, norm=layer, in_channels=1, size=8)"


def shards(folder, state):
    names = list(state)
    for number, half in enumerate((names[::2], names[1::2])):
        checkpoints.write(folder / f"{number}.safetensors", {name: state[name] for name in half})
    files = {name: f"{place % 2}.safetensors" for place, name in enumerate(names)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": files}))
    return index


def test_networks_on_disk_match_as_those_in_memory(tmp_path):
    module = build(MODEL)
    spec, a = trace(module, example(MODEL)), module.state_dict()
    b = Permutation.random(spec, 1).apply(a)
    checkpoints.write(tmp_path / "a.safetensors", a)
    streams = Stream(tmp_path / "a.safetensors"), Stream(shards(tmp_path, b))
    assert dict(streams[1]).keys() == b.keys()
    assert all(torch.equal(streams[1][name], b[name]) for name in b)
    assert match_weights(spec, *streams).permutation == match_weights(spec, a, b).permutation


def test_streams_refuse_what_is_not_there(tmp_path):
    index = shards(tmp_path, {"x": torch.ones(3), "y": torch.ones(2)})
    with pytest.raises(KeyError):
        Stream(index)["z"]
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        Stream(tmp_path / "none.safetensors")
    (tmp_path / "1.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"1\.safetensors is missing, truncated or no safetensors file"):
        Stream(index)
    for text, message in [
        ("[]", "no index of shards"),
        ("[" * 100_000, "no index of shards"),
        (json.dumps({"weight_map": {"x": "../0.safetensors"}}), "not the name of a file beside it"),
        (json.dumps({"weight_map": {"z": "0.safetensors"}}), "'z' is not in 0.safetensors"),
    ]:
        index.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            Stream(index)


def test_a_shard_that_goes_away_is_missed_in_one_line(tmp_path):
    stream = Stream(shards(tmp_path, {"x": torch.ones(3), "y": torch.ones(2)}))
    (tmp_path / "0.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has changed since"):
        stream["x"]
    assert "x" in stream
    assert "z" not in stream


def test_the_index_says_where_a_tensor_is(tmp_path):
    for number in range(2):
        checkpoints.write(tmp_path / f"{number}.safetensors", {"x": torch.full((2,), number), "y": torch.ones(1)})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "0.safetensors", "y": "1.safetensors"}}))
    assert Stream(index)["x"].tolist() == [0, 0]
