"""The specs published with Git Re-Basin, as facts: which units each layer reads and writes.

Source: github.com/samuela/git-re-basin, ``mlp_permutation_spec``, ``vgg16_permutation_spec`` and
``resnet20_permutation_spec``. There the projection shortcuts of ResNet-20 are 3x3 convolutions and norms are LayerNorms
over channels; here they are 1x1 convolutions and ``GroupNorm(1, C)``, with the same axes of units.
"""

from collections.abc import Hashable, Mapping

import pytest
from torch import nn

from fastmatch import PermutationSpec, trace
from tests.problems import build, example

# Units that a layer reads and units that it writes; None where they stay in place: inputs and classes.
Layers = Mapping[str, tuple[Hashable, Hashable]]
Axes = dict[str, list[Hashable]]

MLP: Layers = {"linear1": (None, 1), "linear2": (1, 2), "linear3": (2, 3), "linear4": (3, None)}

VGG16: Layers = {
    "conv1": (None, 1),
    **{f"conv{number}": (number - 1, number) for number in range(2, 14)},
    **{f"norm{number}": (number, number) for number in range(1, 14)},
    "linear1": (13, 14),
    "linear2": (14, 15),
    "linear3": (15, None),
}


def block(name: str, stream: str, result: str) -> Layers:
    """Two convolutions with units of their own between them, and a shortcut where the stream changes."""
    body = {"conv1": (stream, name), "bn1": (name, name), "conv2": (name, result), "bn2": (result, result)}
    shortcut = {"downsample.0": (stream, result), "downsample.1": (result, result)} if stream != result else {}
    return {f"{name}.{layer}": units for layer, units in (body | shortcut).items()}


RESNET20: Layers = {
    "conv1": (None, "stream1"),
    "bn1": ("stream1", "stream1"),
    **block("layer1.0", "stream1", "stream1"),
    **block("layer1.1", "stream1", "stream1"),
    **block("layer1.2", "stream1", "stream1"),
    **block("layer2.0", "stream1", "stream2"),
    **block("layer2.1", "stream2", "stream2"),
    **block("layer2.2", "stream2", "stream2"),
    **block("layer3.0", "stream2", "stream3"),
    **block("layer3.1", "stream3", "stream3"),
    **block("layer3.2", "stream3", "stream3"),
    "fc": ("stream3", None),
}


def published_axes(module: nn.Module, layers: Layers) -> Axes:
    """Units on each axis of each parameter: a weight writes axis 0 and reads axis 1, everything else is written."""
    axes: Axes = {}
    for name, tensor in module.state_dict().items():
        layer, _, role = name.rpartition(".")
        reads, writes = layers[layer]
        assert tensor.dim() == 1 or role == "weight"
        axes[name] = [writes, reads, None, None][: tensor.dim()]
    return axes


def traced_axes(module: nn.Module, spec: PermutationSpec) -> Axes:
    state = module.state_dict()
    axes: Axes = {name: [None] * tensor.dim() for name, tensor in state.items()}
    for group in spec.groups:
        for place in group.occurrences:
            assert state[place.tensor].shape[place.axis] == group.size, "a group must fill the axis"
            axes[place.tensor][place.axis] = group.name
    return axes


def numbered(axes: Axes) -> Axes:
    """The same with groups named by the order in which parameters meet them."""
    numbers: dict[Hashable, Hashable] = {None: None}
    for group in (group for name in sorted(axes) for group in axes[name]):
        numbers.setdefault(group, len(numbers))
    return {name: [numbers[group] for group in groups] for name, groups in axes.items()}


PUBLISHED = pytest.mark.parametrize(
    ("model", "layers"),
    [
        ("mlp(12, 7, 6, 5, 3)", MLP),
        ("vgg16(width=2, norm=layer, size=8)", VGG16),
        ("resnet20(norm=layer, size=8)", RESNET20),
    ],
    ids=["mlp", "vgg16", "resnet20"],
)


@PUBLISHED
def test_groups_equal_the_published_ones_axis_for_axis(model, layers):
    module = build(model)
    spec = trace(module, example(model))
    assert all(group.base == () for group in spec.groups)
    assert numbered(traced_axes(module, spec)) == numbered(published_axes(module, layers))


@PUBLISHED
def test_every_other_axis_is_pinned_with_a_reason(model, layers):
    module = build(model)
    pinned = {pin.axis: pin.reason for pin in trace(module, example(model)).pinned}
    sizes = {name: tensor.shape for name, tensor in module.state_dict().items()}
    still = {
        f"{name}[{axis}]"
        for name, groups in published_axes(module, layers).items()
        for axis, group in enumerate(groups)
        if group is None and sizes[name][axis] > 1
    }
    assert set(pinned) == still
    first, last = next(iter(layers)), list(layers)[-1]
    assert "input" in pinned[f"{first}.weight[1]"]
    assert "output" in pinned[f"{last}.weight[0]"]
    assert "output" in pinned[f"{last}.bias[0]"]
