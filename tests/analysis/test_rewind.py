"""Layers in the order in which they run, and networks that are made of two."""

import pytest
import torch

from fastmatch import Permutation, match_weights
from fastmatch.analysis import layers, rewind, rewound_layers
from fastmatch.errors import OptionError
from tests.analysis.trained import data, module, run, spec
from tests.problems import build, example


class Reversed(torch.nn.Module):
    """Layers whose names and order of registration are not the order in which they run."""

    def __init__(self):
        super().__init__()
        self.a_last = torch.nn.Linear(5, 3)
        self.b_norm = torch.nn.BatchNorm1d(5)
        self.c_first = torch.nn.Linear(4, 5)

    def forward(self, inputs):
        return self.a_last(torch.relu(self.b_norm(self.c_first(inputs))))


def test_layers_stand_in_the_order_in_which_they_run():
    first, second = layers(Reversed().eval(), (torch.randn(3, 4),))
    running = ["num_batches_tracked", "running_mean", "running_var"]
    expected = [*(f"b_norm.{name}" for name in ("bias", *running, "weight")), "c_first.bias", "c_first.weight"]
    assert sorted(first) == expected
    assert set(second) == {"a_last.weight", "a_last.bias"}


class Tied(torch.nn.Module):
    """A normalisation of the inputs, and a decoder that shares the encoder's weights."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(4)
        self.decoder = torch.nn.Linear(4, 4)
        self.middle = torch.nn.Linear(4, 4)
        self.encoder = torch.nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight

    def forward(self, inputs):
        hidden = torch.relu(self.middle(torch.relu(self.encoder(self.norm(inputs)))))
        return self.decoder(hidden)


def test_names_of_a_tied_tensor_are_in_the_layer_that_uses_it_first():
    first, second = layers(Tied().eval(), (torch.randn(3, 4),))
    assert {"norm.weight", "decoder.weight", "encoder.weight"} <= set(first)
    assert "middle.weight" in second


def test_there_is_no_layer_before_the_first():
    state = Reversed().state_dict()
    with pytest.raises(OptionError, match="no layer -1 of 2"):
        rewind(state, state, [("a_last.weight",), ("c_first.weight",)], [-1])


def test_a_convolution_and_its_norm_are_one_layer_and_all_tensors_are_in_one():
    model = "vgg11(width=4, norm=layer, in_channels=1, size=8)"
    parts = layers(build(model), example(model))
    assert len(parts) == 11
    assert set(parts[8]) == {"linear1.weight", "linear1.bias"}
    assert {name.partition(".")[0] for name in parts[0]} == {"conv1", "norm1"}
    assert sorted(name for part in parts for name in part) == sorted(build(model).state_dict())


def test_kinds_choose_layers_as_the_paper_says():
    assert rewound_layers(4, 2, "bottom-up") == [0, 1]
    assert rewound_layers(4, 2, "top-down") == [2, 3]
    assert rewound_layers(4, 2, "put-in") == [2]
    assert rewound_layers(4, 2, "leave-out") == [0, 1, 3]
    assert rewound_layers(4, 4, "bottom-up") == rewound_layers(4, 0, "top-down") == [0, 1, 2, 3]
    for layer, kind in [(4, "put-in"), (5, "bottom-up"), (-1, "leave-out")]:
        with pytest.raises(OptionError, match="no layer"):
            rewound_layers(4, layer, kind)
    with pytest.raises(OptionError, match="unknown"):
        rewound_layers(4, 1, "sideways")


def test_a_rewound_network_has_each_tensor_from_its_own_time():
    late, early, parts = run(0)[24], run(0)[0], layers(module(), (data().train.inputs[:4],))
    mixed = rewind(late, early, parts, [1])
    assert list(mixed) == list(late)
    for number, names in enumerate(parts):
        for name in names:
            assert mixed[name] is (early if number == 1 else late)[name]
    module().load_state_dict(mixed)


def test_permutations_of_rewound_copies_are_those_planted():
    late, early, parts = run(0)[24], run(0)[0], layers(module(), (data().train.inputs[:4],))
    planted = Permutation.random(spec(), 1)
    for layer in range(len(parts)):
        chosen = rewound_layers(len(parts), layer, "leave-out")
        a = rewind(late, early, parts, chosen)
        b = rewind(planted.apply(late), planted.apply(early), parts, chosen)
        assert match_weights(spec(), a, b).permutation == planted.invert()
