"""Permutation: the laws of apply, invert and compose, and the alignment file."""

import json

import numpy as np
import pytest
import safetensors.numpy
import torch

from fastmatch import Permutation, certify, trace
from fastmatch.errors import AlignmentError, PermutationError
from tests.problems import MODELS, assert_same_state, build, example

MODEL = "shallow_cnn(width=8, norm=batch, in_channels=1, size=12)"


@pytest.fixture(scope="module")
def spec():
    return trace(build(MODEL), example(MODEL))


@pytest.fixture
def state():
    """Weights and buffers without two equal entries."""
    return {
        name: torch.rand_like(tensor) if tensor.is_floating_point() else tensor
        for name, tensor in build(MODEL).state_dict().items()
    }


@pytest.mark.parametrize("model", MODELS)
def test_a_permuted_network_is_the_same_function(model):
    module, inputs = build(model), example(model, 8)
    spec = trace(module, inputs)
    permutation = Permutation.random(spec, 3)
    moved = permutation.apply(module.state_dict())
    assert any(not torch.equal(moved[name], tensor) for name, tensor in module.state_dict().items())
    assert certify(spec, module, module.state_dict(), permutation.indices, inputs).max_rel < 1e-12


def test_apply_takes_unit_p_i_to_place_i(spec, state):
    permutation = Permutation.random(spec, 0)
    moved = permutation.apply(state)
    index = torch.from_numpy(permutation.indices["conv1"].copy())
    torch.testing.assert_close(moved["conv1.weight"], state["conv1.weight"][index], rtol=0, atol=0)
    torch.testing.assert_close(moved["norm1.running_var"], state["norm1.running_var"][index], rtol=0, atol=0)
    blocks, moved_blocks = (s["linear1.weight"].unflatten(1, (8, -1)) for s in (state, moved))
    rows = torch.from_numpy(permutation.indices["linear1"].copy())
    torch.testing.assert_close(moved_blocks, blocks[rows][:, index], rtol=0, atol=0)


def test_apply_leaves_its_input_alone(spec, state):
    before = {name: tensor.clone() for name, tensor in state.items()}
    Permutation.random(spec, 0).apply(state)
    assert_same_state(state, before)


@pytest.mark.parametrize("seed", range(5))
def test_inverse_and_composition_laws(spec, state, seed):
    p, q = Permutation.random(spec, seed), Permutation.random(spec, seed + 100)
    assert_same_state(p.invert().apply(p.apply(state)), state)
    assert_same_state(p.compose(q).apply(state), q.apply(p.apply(state)))
    assert p.compose(p.invert()) == Permutation.identity(spec)
    assert p.compose(q).invert() == q.invert().compose(p.invert())
    assert p.compose(q) != q.compose(p)


def test_fixed_points_count_equal_places(spec):
    identity, swap = Permutation.identity(spec), np.array([1, 0, 2, 3, 4, 5, 6, 7])
    one = Permutation(spec, {"conv1": swap})
    assert one.fixed_points() == {"conv1": 6, "linear1": 8}
    assert one.fixed_points(one) == {"conv1": 8, "linear1": 8}
    assert identity.fixed_points(one) == one.fixed_points()


@pytest.mark.parametrize(
    "index",
    [[0, 0, 2, 3, 4, 5, 6, 7], [0, 1, 2], [1, 2, 3, 4, 5, 6, 7, 8], [0.0, 1, 2, 3, 4, 5, 6, 7], [[0]]],
    ids=["twice", "short", "outside", "float", "shape"],
)
def test_arrays_that_are_no_permutation_are_refused(spec, index):
    with pytest.raises(PermutationError, match="permutations of 0"):
        Permutation(spec, {"conv1": np.array(index)})


def test_unknown_groups_are_refused(spec):
    with pytest.raises(PermutationError, match="no group"):
        Permutation(spec, {"nowhere": np.arange(8)})


def test_permutations_of_other_networks_do_not_mix(spec):
    other = trace(build("mlp(6, 5, 3)"), (torch.randn(2, 6),))
    with pytest.raises(PermutationError, match="different groups"):
        Permutation.identity(spec).compose(Permutation.identity(other))


def test_file_round_trip_keeps_arrays_spec_and_metadata(spec, tmp_path):
    permutation = Permutation(spec, spec.random(1), {"a": {"path": "a.pt"}, "seed": 3})
    permutation.save(tmp_path / "x.safetensors")
    again = Permutation.load(tmp_path / "x.safetensors")
    assert again == permutation
    assert again.metadata == permutation.metadata
    assert again.spec.digest == spec.digest
    arrays = safetensors.numpy.load_file(tmp_path / "x.safetensors")
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


def _header(path, change):
    with safetensors.safe_open(path, framework="numpy") as handle:
        header = json.loads(handle.metadata()["fastmatch"])
        arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    change(header)
    safetensors.numpy.save_file(arrays, path, metadata={"fastmatch": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: header.update(format=99), "newer"),
        (lambda header: header.update(convention="the other way"), "convention"),
        (lambda header: header.update(spec_sha256="0"), "digest"),
        (lambda header: header.pop("spec"), "malformed"),
    ],
)
def test_altered_alignments_are_refused(spec, tmp_path, change, message):
    path = tmp_path / "x.safetensors"
    Permutation.identity(spec).save(path)
    _header(path, change)
    with pytest.raises(AlignmentError, match=message):
        Permutation.load(path)


def test_an_alignment_without_all_its_arrays_is_refused(spec, tmp_path):
    path = tmp_path / "x.safetensors"
    Permutation.identity(spec).save(path)
    with safetensors.safe_open(path, framework="numpy") as handle:
        header = handle.metadata()
    safetensors.numpy.save_file({"conv1": np.arange(8)}, path, metadata=header)
    with pytest.raises(AlignmentError, match="no array for group 'linear1'"):
        Permutation.load(path)
