"""Tracing one run: the same groups where nothing is fused, and safe where torch hides something."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastmatch import trace
from fastmatch.errors import OptionError, SymmetryError
from tests.problems import build, example

MODELS = ["mlp(12, 7, 5, 3, norm=batch)", "vgg11(width=4, norm=layer, in_channels=1, size=8)"]
MODELS += ["resnet20(width=1, norm=batch, in_channels=1, size=8)"]


@pytest.mark.parametrize("model", MODELS)
def test_a_run_has_the_groups_of_the_export(model):
    module, inputs = build(model), example(model)
    exported, run = trace(module, inputs), trace(module, inputs, method="run")
    assert run.groups == exported.groups
    assert run.certify(module, inputs).passed


def test_attention_is_seen_operation_by_operation():
    module = nn.TransformerEncoder(nn.TransformerEncoderLayer(12, 3, 20, batch_first=True), 2).eval()
    inputs = (torch.randn(2, 5, 12),)
    assert trace(module, inputs, method="run").groups == trace(module, inputs).groups


class Step(nn.Module):
    """Two linear layers with a step between them that no export follows."""

    def __init__(self, step):
        super().__init__()
        self.a, self.b, self.step = nn.Linear(5, 8), nn.Linear(8, 3), step

    def forward(self, x):
        return self.b(self.step(self.a(x)))


def in_place_on_a_view(h):
    h = h.clone()
    h[:, 2:4] += h[:, :2]
    return h if h.sum() > -1e9 else -h


def in_place(h):
    h = h + 1
    h.mul_(2).relu_()
    return h if h.sum() > -1e9 else -h


def through_numpy(h):
    weights = torch.from_numpy(h.detach().mean(0).numpy().argsort()).to(h.dtype)
    return h * weights


STEPS = {"in place": (in_place, [8]), "in place on a view": (in_place_on_a_view, None)}


@pytest.mark.parametrize("name", STEPS)
def test_steps_that_no_export_follows_are_followed_or_pinned(name):
    step, expected = STEPS[name]
    module, inputs = Step(step), (torch.randn(4, 5),)
    spec = trace(module, inputs, method="run")
    if expected is not None:
        assert [group.size for group in spec.groups] == expected
    assert spec.certify(module, inputs).passed


def clipped_by_numpy(h):
    return torch.from_numpy(h.detach().numpy().clip(0))


@pytest.mark.parametrize("step", [through_numpy, clipped_by_numpy])
def test_values_that_leave_torch_are_refused(step):
    with pytest.raises(SymmetryError, match="leave torch"):
        trace(Step(step), (torch.randn(4, 5),), method="run")


def test_outputs_that_leave_torch_are_refused():
    module = Step(torch.relu)
    module.register_forward_hook(lambda _, inputs, output: torch.from_numpy(output.detach().numpy()))
    with pytest.raises(SymmetryError, match="leave torch"):
        trace(module, (torch.randn(4, 5),), method="run")


def test_packed_sequences_are_filled_in_place_and_pinned():
    """What the padding writes into is no constant, although it begins as one."""

    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

        def forward(self, x):
            packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 3]), batch_first=True)
            return self.head(nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0])

    module, inputs = Packed(), (torch.randn(2, 5, 4),)
    assert trace(module, inputs, method="run").certify(module, inputs).passed


def test_a_run_changes_neither_module_nor_inputs():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(5, 8), nn.Linear(8, 3)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            x += 1
            return self.b(torch.relu(self.a(x)))

    module, inputs = Counting(), (torch.zeros(4, 5),)
    spec = trace(module, inputs, method="run")
    assert spec.certify(module, inputs).passed
    assert module.calls.item() == 0
    assert inputs[0].abs().max().item() == 0


def test_fused_recurrent_layers_are_pinned_with_the_reason():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x):
            return self.head(F.relu(self.lstm(x)[0][:, -1]))

    module, inputs = Last().eval(), (torch.randn(2, 3, 4),)
    spec = trace(module, inputs, method="run")
    assert spec.groups == ()
    reasons = {pin.reason for pin in spec.pinned if pin.axis == "lstm.weight_hh_l0[0]"}
    assert reasons == {"changed in place through a view"}
    assert [group.size for group in trace(module, inputs).groups] == [6]


def test_a_network_that_fails_on_its_inputs_says_so():
    with pytest.raises(SymmetryError, match="Step does not run on its example inputs"):
        trace(Step(F.relu), (torch.randn(2, 7),), method="run")
    with pytest.raises(OptionError, match="'guess' is unknown"):
        trace(Step(F.relu), (torch.randn(2, 5),), method="guess")
