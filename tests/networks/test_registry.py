from __future__ import annotations

import pytest
import torch

from fastmatch.errors import ModelError
from fastmatch.networks import build, input_shape, is_builtin
from fastmatch.networks.registry import NETWORKS

EXPORTED = [
    *[f"mlp(20, 8, 6, 5, norm={norm})" for norm in ("none", "layer", "batch")],
    *[f"shallow_cnn(width=3, depth=3, size=12, norm={norm})" for norm in ("none", "layer", "batch")],
    *[f"vgg11(width=1, in_channels=1, size=8, norm={norm})" for norm in ("none", "layer", "batch")],
    *[f"resnet18(width=2, size=8, norm={norm})" for norm in ("none", "layer", "batch")],
    *["vgg13(width=1, size=28)", "vgg16(width=1, norm=layer)", "vgg19(width=1, norm=batch, size=64)"],
    *["resnet20(size=8)", "resnet34(width=1, norm=layer, size=8)", "resnet50(width=2, size=72)"],
]


@pytest.fixture
def factory_file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(
        "import torch\ndef net(width):\n    return torch.nn.Linear(3, width)\ndef other():\n    return 'text'\n"
    )
    return path


def test_exported_networks_cover_the_registry():
    assert {model.partition("(")[0] for model in EXPORTED} == set(NETWORKS)


@pytest.mark.parametrize("model", EXPORTED)
def test_network_takes_its_input_shape_and_exports_with_any_batch_size(model):
    torch.manual_seed(0)
    network = build(model).eval()
    x = torch.randn(5, *input_shape(model))
    program = torch.export.export(network, (x[:2],), dynamic_shapes=({0: torch.export.Dim.AUTO},), strict=False)
    torch.testing.assert_close(program.module()(x), network(x))


def test_build_initialises_from_the_global_seed():
    weights = []
    for _ in range(2):
        torch.manual_seed(3)
        weights.append(build("mlp(5, 4, 3)").linear1.weight)
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], build("mlp(5, 4, 3)").linear1.weight)


def test_build_runs_a_factory_of_the_user(factory_file):
    assert build(f"{factory_file}:net(4)").weight.shape == (4, 3)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("vgg12(width=3)", "unknown network 'vgg12'; choose one of mlp, shallow_cnn, vgg11"),
        ("mlp(784,", "cannot read"),
        ("net.pt2", "cannot read"),
        ("vgg16(layers=13)", "unexpected keyword argument 'layers'; write vgg16"),
        ("resnet20(width=big)", "width is 'big' but must be an integer"),
        ("mlp(5, 2.5)", "must be an integer"),
        ("mlp(5, 4, 3, norm=weird)", "norm is 'weird' in the model string; it must be one of none, layer, batch"),
        ("vgg16(norm=group)", "norm is 'group'"),
        (f"mlp({10**12}, {10**12}, 3)", "cannot be built on this machine"),
        (f"mlp({10**30}, 3)", "cannot be built on this machine"),
        ("no_such_module_here:net", "cannot import"),
    ],
)
def test_build_names_the_problem_in_one_line(model, message):
    with pytest.raises(ModelError, match=message) as caught:
        build(model)
    assert "\n" not in str(caught.value)


def test_build_refuses_what_is_no_network(factory_file):
    with pytest.raises(ModelError, match=r"returned str; it must return a torch\.nn\.Module"):
        build(f"{factory_file}:other")
    with pytest.raises(ModelError, match="missing 1 required positional argument"):
        build(f"{factory_file}:net")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("mlp(3, 2)", True),
        ("resnet20", True),
        ("vgg12", False),
        ("a.b:mlp", False),
        ("mlp.pt2", False),
        ("mlp(", False),
    ],
)
def test_is_builtin(model, expected):
    assert is_builtin(model) is expected


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("mlp(784, 512, 10)", (784,)),
        ("vgg16", (3, 32, 32)),
        ("resnet20(in_channels=1, size=28)", (1, 28, 28)),
        ("a.b:c", None),
    ],
)
def test_input_shape(model, expected):
    assert input_shape(model) == expected


@pytest.mark.parametrize("model", ["vgg12", "vgg11(wide=3)", "mlp("])
def test_input_shape_names_the_problem(model):
    with pytest.raises(ModelError):
        input_shape(model)
