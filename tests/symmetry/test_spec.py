"""PermutationSpec: JSON, checks, and structured axes."""

import copy

import numpy as np
import pytest
import torch

from fastmatch import PermutationSpec, trace
from fastmatch.errors import PermutationError, SymmetryError
from fastmatch.symmetry import Box, Factor, TensorLayout
from tests.problems import build, example

MODEL = "shallow_cnn(width=8, norm=batch, in_channels=1, size=12)"


@pytest.fixture(scope="module")
def spec():
    return trace(build(MODEL), example(MODEL))


def test_json_round_trip_keeps_groups_layout_pins_and_digest(spec):
    again = PermutationSpec.from_json(spec.to_json())
    assert again.groups == spec.groups
    assert again.tensors == spec.tensors
    assert again.pinned == spec.pinned
    assert again.digest == spec.digest


def _drop_tensors(data):
    del data["tensors"]


def _newer(data):
    data["format"] = 99


def _gap(data):
    next(iter(data["tensors"].values()))["axes"][0][0]["offset"] = 1


def _two_sizes(data):
    for entry in data["tensors"].values():
        for boxes in entry["axes"]:
            for box in boxes:
                for factor in box["factors"]:
                    factor[0] = "all"


@pytest.mark.parametrize("damage", [_drop_tensors, _newer, _gap, _two_sizes])
def test_damaged_specs_are_refused(spec, damage):
    data = copy.deepcopy(spec.to_json())
    damage(data)
    with pytest.raises(SymmetryError):
        PermutationSpec.from_json(data)


def test_a_wrong_spec_fails_its_certificate(spec):
    """One axis left behind is another function: the certificate must see it."""
    module, inputs = build(MODEL), example(MODEL)
    for name in ("norm1.running_mean", "linear1.weight", "norm2.bias"):
        layout = spec.tensors[name]
        pinned = tuple((Box(0, (Factor(None, size, 1),)),) for size in layout.shape)
        wrong = PermutationSpec({**spec.tensors, name: TensorLayout(layout.shape, pinned, layout.buffer)})
        assert not wrong.certify(module, inputs).passed, name


def test_boxes_move_blocks_inside_and_around():
    """Axis of 3 blocks of 4 + a tail of 2: blocks and places inside move independently."""
    inner, tail = Box(0, (Factor("g", 3, 4), Factor("h", 4, 1))), Box(12, (Factor(None, 2, 1),))
    layout = TensorLayout((14,), ((inner, tail),))
    p, q = np.array([2, 0, 1]), np.array([1, 0, 3, 2])
    index = layout.axis_index(0, {"g": p, "h": q})
    values = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(index, [*values[p][:, q].ravel(), 12, 13])


def test_unit_matrix_lists_units_of_any_factor():
    box = Box(1, (Factor("g", 2, 3), Factor("h", 3, 1)))
    tensor = torch.arange(14.0).reshape(2, 7)
    torch.testing.assert_close(
        box.unit_matrix(tensor, 1, 1), torch.tensor([[1.0, 8, 4, 11], [2, 9, 5, 12], [3, 10, 6, 13]])
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv1.weight"), "no tensor 'conv1.weight'"),
        (lambda state: state.update({"extra": torch.ones(1)}), "'extra' is not part"),
        (lambda state: state.update({"conv1.bias": torch.ones(9)}), "has shape"),
    ],
)
def test_state_dicts_of_other_networks_are_refused(spec, change, message):
    state = dict(build(MODEL).state_dict())
    change(state)
    with pytest.raises(PermutationError, match=message):
        spec.check_state(state)
