"""PermutationSpec: JSON, checks, and structured axes."""

import copy

import numpy as np
import pytest
import torch

from fastmatch import PermutationSpec, trace
from fastmatch.errors import PermutationError, SymmetryError
from fastmatch.symmetry import Box, Factor, Occurrence, TensorLayout
from fastmatch.symmetry.notation import read_axis, write_axis
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
    next(iter(data["tensors"].values()))["axes"][0] += " + [1]"


def _two_sizes(data):
    data["groups"]["conv1"]["size"] = 4


def _unknown_base(data):
    data["groups"]["conv1"]["base"] = ["conv2"]


def _unreadable(data):
    next(iter(data["tensors"].values()))["axes"][0] = "conv1 ("


@pytest.mark.parametrize("damage", [_drop_tensors, _newer, _gap, _two_sizes, _unknown_base, _unreadable])
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


BLOCKS = Box(0, (Factor("g", 3, 4), Factor("h", 4, 1)))


def test_boxes_move_blocks_inside_and_around():
    """Axis of 3 blocks of 4 + a tail of 2: blocks and places inside move independently."""
    layout = TensorLayout((14,), ((BLOCKS, Box(12, (Factor(None, 2, 1),))),))
    p, q = np.array([2, 0, 1]), np.array([1, 0, 3, 2])
    ((axes, index),) = layout.moves({"g": p, "h": q}, {})
    assert axes == (0,)
    values = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(index, [*values[p][:, q].ravel(), 12, 13])


def test_units_inside_blocks_have_an_order_in_each_block():
    """Each new block j comes from block p[j], and its places from q[j]: on one axis or on two."""
    p, q = np.array([2, 0, 1]), np.array([[1, 0, 3, 2], [0, 1, 2, 3], [3, 2, 1, 0]])
    values = torch.arange(60.0).reshape(3, 4, 5)
    expected = torch.stack([values[p[j]][q[j]] for j in range(3)])
    apart = TensorLayout(
        (3, 4, 5), ((Box(0, (Factor("g", 3, 1),)),), (Box(0, (Factor("h", 4, 1),)),), (Box(0, (Factor(None, 5, 1),)),))
    )
    together = TensorLayout((12, 5), ((BLOCKS,), (Box(0, (Factor(None, 5, 1),)),)))
    spec = PermutationSpec({"apart": apart, "together": together}, bases={"h": ("g",)})
    moved = spec.permute({"apart": values, "together": values.reshape(12, 5)}, {"g": p, "h": q})
    torch.testing.assert_close(moved["apart"], expected, rtol=0, atol=0)
    torch.testing.assert_close(moved["together"], expected.reshape(12, 5), rtol=0, atol=0)
    for place in spec.group("h").occurrences:
        units = place.units(values.reshape(spec.tensors[place.tensor].shape))
        torch.testing.assert_close(units, values, rtol=0, atol=0)


def test_units_of_any_factor_come_first():
    box = Box(1, (Factor("g", 2, 3), Factor("h", 3, 1)))
    tensor = torch.arange(14.0).reshape(2, 7)
    place = Occurrence("w", 1, box, 1)
    torch.testing.assert_close(place.units(tensor), torch.tensor([[1.0, 4, 8, 11], [2, 5, 9, 12], [3, 6, 10, 13]]))


AXES = {
    "g": 3,
    "[14]": 14,
    "g h": 12,
    "g + h + [3]": 10,
    "g (h + [2])": 18,
    "[2] g (h + [1] + g [2]) [3]": 198,
    "(g + h) [2]": 14,
    "g ([2] h + k)": 39,
}


SIZES = {"g": 3, "h": 4, "k": 5}


@pytest.mark.parametrize("text", AXES)
def test_axes_are_read_and_written(text):
    size = AXES[text]
    boxes = read_axis(text, SIZES, size)
    assert read_axis(write_axis(boxes), SIZES, size) == boxes
    positions = np.concatenate([box.positions().ravel() for box in boxes])
    np.testing.assert_array_equal(np.sort(positions), np.arange(size))


HOSTILE = [
    "",
    "(",
    "+",
    "g g)",
    "(" * 5000 + "[3]" + ")" * 5000,
    "([1] + [1]) " * 40,
    "[0] [3]",
    "[" + "9" * 5000 + "]",
    "x",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_axes_that_make_no_sense_are_refused_at_once(text):
    with pytest.raises(SymmetryError, match="axis"):
        read_axis(text, SIZES, 3)


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
