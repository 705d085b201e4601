"""Masks in checkpoints: stored beside the weights, checked when read, carried by what reads and writes them."""

import pytest
import safetensors.torch
import torch

import fastmatch
from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card, Stream
from fastmatch.errors import CheckpointError
from fastmatch.files import sha256

SUFFIXES = [".pt", ".safetensors"]
# A kept weight that is 0, and a tensor without a mask: neither could be told from the zeros alone.
STATE = {"a.weight": torch.tensor([[0.0, 2.0], [0.0, -1.0]]), "b.weight": torch.zeros(1, 2)}
MASKS = {"a.weight": torch.tensor([[True, True], [False, True]])}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("card", [None, Card(step=3)], ids=["bare", "card"])
def test_masks_are_read_as_they_were_written(tmp_path, suffix, card):
    path = tmp_path / f"a{suffix}"
    checkpoints.write(path, STATE, card, MASKS)
    stored = checkpoints.read(path)
    assert same(stored.state_dict, STATE)
    assert same(stored.masks, MASKS)
    assert stored.card == card


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("masks", [None, {}])
def test_files_without_masks_are_what_they_were(tmp_path, suffix, masks):
    checkpoints.write(tmp_path / f"a{suffix}", STATE, Card(step=3))
    checkpoints.write(tmp_path / f"b{suffix}", STATE, Card(step=3), masks)
    assert sha256(tmp_path / f"a{suffix}") == sha256(tmp_path / f"b{suffix}")
    assert checkpoints.read(tmp_path / f"b{suffix}").masks is None


def test_other_readers_find_the_weights_where_they_look(tmp_path):
    checkpoints.write(tmp_path / "a.pt", STATE, Card(step=3), MASKS)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert same(content["state_dict"], STATE)
    checkpoints.write(tmp_path / "a.safetensors", STATE, None, MASKS)
    assert STATE.keys() < safetensors.torch.load_file(tmp_path / "a.safetensors").keys()
    assert same(dict(Stream(tmp_path / "a.safetensors")), STATE)


WRONG = {
    "of no tensor": ({"c.weight": torch.ones(2) > 0}, "there is a mask of 'c.weight', which the network does not have"),
    "of another shape": ({"b.weight": torch.ones(2) > 0}, r"mask of 'b.weight' has shape \(2,\), its weights \(1, 2\)"),
    "of numbers": ({"b.weight": torch.ones(1, 2)}, "mask of 'b.weight' is torch.float32, not torch.bool"),
    "over weights": ({"a.weight": torch.zeros(2, 2) > 0}, "'a.weight' has weights outside its mask that are not 0"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_masks_that_do_not_fit_are_neither_written_nor_read(tmp_path, case, suffix):
    masks, message = WRONG[case]
    path = tmp_path / f"a{suffix}"
    with pytest.raises(CheckpointError, match=message):
        checkpoints.write(path, STATE, None, masks)
    assert not path.exists()
    if suffix == ".pt":
        torch.save({"state_dict": STATE, "fastmatch_masks": masks}, path)
    else:
        named = {f"fastmatch.mask:{name}": mask for name, mask in masks.items()}
        safetensors.torch.save_file(STATE | named, path)
    with pytest.raises(CheckpointError, match=message):
        checkpoints.read(path)


@pytest.mark.parametrize("masks", [[1], {"a.weight": 3}, {4: torch.ones(2) > 0}, torch.ones(2)])
def test_what_is_no_masks_gets_one_line(tmp_path, masks):
    torch.save({"state_dict": STATE, "fastmatch_masks": masks}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="mask") as error:
        checkpoints.read(tmp_path / "a.pt")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "mask",
    [(torch.ones(2, 2) > 0).to_sparse(), torch.ones(2, 2, device="meta") > 0],
    ids=["sparse", "meta"],
)
def test_masks_without_dense_values_get_one_line(tmp_path, mask):
    torch.save({"state_dict": STATE, "fastmatch_masks": {"a.weight": mask}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"mask of 'a.weight' is .*, not a dense tensor"):
        checkpoints.read(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_loaded_network_has_its_masks(tmp_path, suffix):
    state = dict(networks.build("mlp(4, 3, 2)").state_dict())
    masks = {"linear1.weight": torch.rand(3, 4) < 0.5}
    state["linear1.weight"] = state["linear1.weight"] * masks["linear1.weight"]
    checkpoints.write(tmp_path / f"a{suffix}", state, Card(model="mlp(4, 3, 2)"), masks)
    network = fastmatch.load(tmp_path / f"a{suffix}")
    assert same(network.masks, masks)
    assert network.state_dict.keys() == state.keys()
    checkpoints.write(tmp_path / f"b{suffix}", state, Card(model="mlp(4, 3, 2)"))
    assert fastmatch.load(tmp_path / f"b{suffix}").masks is None
