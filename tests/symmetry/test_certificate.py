"""The certificate: what it compares, what it must not miss, and that it changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fastmatch import Certificate, certify, trace
from fastmatch.errors import CertificateError, SymmetryError
from fastmatch.symmetry.notation import spec_from_json
from tests.problems import build, example


class Outputs(nn.Module):
    """A network whose outputs are what ``finish`` makes of input and logits."""

    def __init__(self, finish):
        super().__init__()
        self.hidden, self.out, self.finish = nn.Linear(4, 6), nn.Linear(6, 2), finish

    def forward(self, x):
        return self.finish(x, self.out(F.relu(self.hidden(x))))


def certificate_of(module):
    inputs = (torch.randn(3, 4),)
    return trace(module, inputs).certify(module, inputs)


def test_nan_in_any_output_does_not_pass():
    assert not certificate_of(Outputs(lambda x, y: (x.sum(1), y / 0 * 0))).passed


def test_whole_numbers_are_compared_too():
    assert certificate_of(Outputs(lambda x, y: y.argmax(1))).passed


def test_a_network_without_outputs_cannot_be_certified():
    module, inputs = Outputs(lambda x, y: None), (torch.randn(2, 4),)
    spec = trace(Outputs(lambda x, y: y), inputs)
    with pytest.raises(SymmetryError, match="returns no tensor"):
        certify(spec, module, module.state_dict(), {}, inputs)


class Counting(nn.Module):
    """Changes its buffers whenever it runs."""

    def __init__(self):
        super().__init__()
        self.hidden, self.out = nn.Linear(4, 6), nn.Linear(6, 2)
        self.register_buffer("average", torch.zeros(6))
        self.register_buffer("runs", torch.zeros((), dtype=torch.int64))

    def forward(self, x):
        hidden = F.relu(self.hidden(x))
        self.average.mul_(0.9).add_(0.1 * hidden.mean(0))
        self.runs += 1
        return self.out(hidden - self.average)


def test_buffers_that_change_are_compared_from_the_same_start_and_left_alone():
    module, inputs = Counting(), (torch.randn(3, 4),)
    state = {
        name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in module.state_dict().items()
    }
    before = {name: tensor.clone() for name, tensor in state.items()}
    spec = trace(module, inputs)
    assert certify(spec, module, state, spec.random(0), inputs).passed
    for name, tensor in state.items():
        assert torch.equal(tensor, before[name]), name


def test_a_failed_certificate_says_what_and_by_how_much():
    certificate = Certificate(0.5, 0.25, 1e-9, 7, "float64")
    with pytest.raises(CertificateError, match=r"the match changes .* 2\.50e-01 .* 7 examples"):
        certificate.require("the match")
    assert Certificate(0.0, float("nan"), 1e-9, 7, "float64").passed is False


def test_it_runs_in_float64_on_all_examples():
    model = "mlp(64, 24, 20, 10)"
    certificate = trace(build(model), example(model)).certify(build(model), example(model, 9))
    assert (certificate.dtype, certificate.examples, certificate.tolerance) == ("float64", 9, 1e-9)


def test_a_huge_output_does_not_hide_the_others():
    """A masked score of -1e9, and infinities that stay, leave the certificate as strict as before."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            scores = self.b(torch.relu(self.a(x)))
            mask = torch.tensor([0.0, -1e9, -torch.inf]).to(x.dtype)
            return scores + mask, scores.new_full((1,), 1e12)

    module, inputs = Masked(), (torch.randn(5, 4),)
    spec = trace(module, inputs)
    assert spec.certify(module, inputs).max_rel < 1e-9
    wrong = spec_from_json({"p": [["a.weight", 0]]}, module)
    certificate = wrong.certify(module, inputs)
    assert not certificate.passed
    assert [text.split("'")[1] for text in certificate.failed] == ["p"]


def test_tensors_made_in_single_precision_are_computed_with_in_double():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.plain = nn.Linear(4, 6), nn.Linear(6, 3), torch.full((6, 6), 0.5)
            self.register_buffer("gain", torch.full((6,), 2.0), persistent=False)

        def forward(self, x):
            x = torch.relu(self.a(x)) * self.gain + torch.zeros(6)
            return self.b(x.float() @ self.plain)

    module, inputs = Mixed(), (torch.randn(5, 4),)
    certificate = trace(module, inputs).certify(module, inputs)
    assert certificate.max_rel < 1e-12
    assert certificate.dtype == "float64"


def test_extra_state_is_passed_on():
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"version": 1}

        def set_extra_state(self, state):
            pass

    module = nn.Sequential(Extra(4, 6), nn.ReLU(), nn.Linear(6, 3))
    inputs = (torch.randn(5, 4),)
    spec = trace(module, inputs)
    assert [group.size for group in spec.groups] == [6]
    assert spec.certify(module, inputs).passed
    state = module.state_dict()
    assert spec.permute(state, spec.random(0))["0._extra_state"] == {"version": 1}


def test_outputs_that_cancel_to_rounding_are_no_alarm():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            y = self.b(torch.tanh(self.a(x)))
            y = y - y.mean(1, keepdim=True)
            return y, y.sum(1)

    module, inputs = Centred(), (torch.randn(5, 4),)
    assert trace(module, inputs).certify(module, inputs).passed
    assert not spec_from_json({"p": [["a.weight", 0]]}, module).certify(module, inputs).passed
