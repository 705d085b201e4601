from __future__ import annotations

import pytest
import torch

from fastmatch.errors import ModelError
from fastmatch.networks import build, recognise
from fastmatch.networks.registry import NETWORKS

CONVOLUTIONAL = [name for name in NETWORKS if name != "mlp"]
IMAGES = ["in_channels=3, size=32, classes=10", "in_channels=1, size=28, classes=7"]


def weights(model):
    return build(model).state_dict()


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_finds_every_convolutional_network(name, width, norm):
    depth = "depth=4, " if name == "shallow_cnn" else ""
    for images in IMAGES:
        model = f"{name}(width={width}, {depth}norm={norm}, {images})"
        assert recognise(weights(model)) == model


@pytest.mark.parametrize("norm", ["none", "layer", "batch"])
@pytest.mark.parametrize("widths", ["5, 4, 3", "9, 8, 7, 6, 5", "5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 2"])
def test_finds_every_mlp(widths, norm):
    model = f"mlp({widths}, norm={norm})"
    assert recognise(weights(model)) == model


@pytest.mark.parametrize(
    ("model", "canonical"),
    [
        ("mlp(5, 3, norm=batch)", "mlp(5, 3, norm=none)"),
        ("vgg11(width=1, size=8)", "vgg11(width=1, norm=none, in_channels=3, size=32, classes=10)"),
        ("vgg11(width=1, in_channels=1, size=8)", "vgg11(width=1, norm=none, in_channels=1, size=28, classes=10)"),
        ("vgg11(width=1, size=50)", "vgg11(width=1, norm=none, in_channels=3, size=64, classes=10)"),
        (
            "shallow_cnn(width=2, size=9)",
            "shallow_cnn(width=2, depth=2, norm=none, in_channels=3, size=10, classes=10)",
        ),
        ("resnet20(size=8)", "resnet20(width=1, norm=layer, in_channels=3, size=32, classes=10)"),
        ("resnet18(width=2, size=96)", "resnet18(width=2, norm=batch, in_channels=3, size=224, classes=10)"),
    ],
)
def test_what_weights_cannot_tell_follows_a_rule(model, canonical):
    assert recognise(weights(model)) == canonical


def test_building_what_was_recognised_gives_the_same_function():
    torch.manual_seed(0)
    network = build("vgg11(width=2, norm=batch, in_channels=1, size=8)").eval()
    other = build(recognise(network.state_dict())).eval()
    other.load_state_dict(network.state_dict())
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(network(x), other(x))


def test_leaves_the_random_state_alone():
    state_dict = weights("resnet20")
    before = torch.get_rng_state()
    recognise(state_dict)
    assert torch.equal(before, torch.get_rng_state())


def test_names_the_nearest_network_and_where_it_differs():
    state_dict = weights("vgg16(width=2)")
    del state_dict["conv3.bias"]
    state_dict["conv5.weight"] = torch.zeros(3, 3)
    with pytest.raises(ModelError, match=r"vgg16\(width=2, .* differs at conv5\.weight, conv3\.bias; .* --model"):
        recognise(state_dict)


@pytest.mark.parametrize(
    "shapes",
    [
        {"encoder.weight": (3, 2)},
        {"conv1.weight": (3,), "linear1.weight": ()},
        {"conv1.weight": (0, 3, 3, 3), "fc.weight": (3, 4)},
        {"conv1.weight": (0, 3, 9, 9), "linear1.weight": (0, 4), "linear2.weight": (3, 0)},
        {"linear1.weight": (0, 0)},
        {"linear1.weight": (3, 2), "linear2.weight": (2, 5)},
    ],
)
def test_foreign_weights_ask_for_the_model(shapes):
    with pytest.raises(ModelError, match=r"of no built-in network.*--model") as caught:
        recognise({name: torch.zeros(shape) for name, shape in shapes.items()})
    assert "\n" not in str(caught.value)
