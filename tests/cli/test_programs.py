"""Exported programs on the command line: network and weights in one file, nothing else to say."""

import pytest
import torch
from torch import nn

import fastmatch
from fastmatch.cli import main

NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3)), (6,)),
    "batch norm": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU()),
            *(nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 6 * 6, 3)),
        ),
        (1, 8, 8),
    ),
    "attention": (lambda: nn.TransformerEncoderLayer(12, 4, 10, batch_first=True), (5, 12)),
    "groups": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=2)),
            *(nn.ReLU(), nn.Flatten(), nn.Linear(12 * 6 * 6, 3)),
        ),
        (1, 8, 8),
    ),
}
SHAPES = {"fixed batch": None, "free batch": ({0: torch.export.Dim.AUTO},)}


def network(name, seed):
    """A network none of whose tensors, buffers included, is symmetric by accident."""
    torch.manual_seed(seed)
    module = NETWORKS[name][0]().eval()
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data.add_(0.5 * torch.rand_like(tensor))
    return module


def export(path, name, module, shapes):
    inputs = (torch.randn(2, *NETWORKS[name][1]),)
    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=SHAPES[shapes], strict=False), path)
    return inputs


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["fastmatch", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_two_programs_are_aligned_by_weights_with_nothing_else_said(name, shapes, tmp_path, monkeypatch, capsys):
    """One network is the other with its units shuffled: the alignment must undo that exactly."""
    monkeypatch.chdir(tmp_path)
    a, b = network(name, 0), network(name, 0)
    inputs = export("a.pt2", name, a, shapes)
    shuffle = fastmatch.Permutation.random(fastmatch.trace(a, inputs), seed=3)
    b.load_state_dict(shuffle.apply(a.state_dict()))
    assert any(not torch.equal(tensor, b.state_dict()[key]) for key, tensor in a.state_dict().items())
    export("b.pt2", name, b, shapes)
    run(monkeypatch, "align", "a.pt2", "b.pt2", "--method", "weight", "--apply", "aligned.pt")
    assert "random inputs: the same function" in capsys.readouterr().out
    aligned = fastmatch.load("aligned.pt", "a.pt2")
    for key, tensor in a.state_dict().items():
        assert torch.equal(aligned.state_dict[key], tensor), key


def test_programs_with_a_free_batch_go_the_whole_road_on_data(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed, path in enumerate(("a.pt2", "b.pt2")):
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
        shapes = ({0: torch.export.Dim("batch")},)
        torch.export.save(torch.export.export(module, (torch.randn(2, 1, 8, 8),), dynamic_shapes=shapes), path)
    run(monkeypatch, "align", "a.pt2", "b.pt2", "--method", "activation", "--data", "digits", "--limit", "99")
    run(monkeypatch, "barrier", "--alphas", "3", "--limit", "50")
    assert "a.pt2 - b.pt2, digits: 3 alphas, 50 train examples and 50 test examples" in capsys.readouterr().out
