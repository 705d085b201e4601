"""Random programs: whatever the tracer leaves free is a symmetry, and nothing that a network does is an error."""

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from torch import Tensor

from fastmatch import Permutation, trace
from tests.problems import assert_same_state
from tests.programs import program_of_seed, programs

CHUNKS, EXAMPLES = 10, 30
TOLERANCE = 1e-9


def certified(program):
    """Trace a program, prove its permutations on its outputs, and return the spec."""
    module, inputs = program.build()
    spec = trace(module, inputs)
    spec.check()
    outputs = module(*inputs)
    for output in (outputs,) if isinstance(outputs, Tensor) else outputs:
        assert output.isfinite().all()
        assert output.abs().max() > 0
    certificate = spec.certify(module, inputs)
    assert certificate.passed
    assert certificate.max_rel < TOLERANCE
    return spec


def assert_laws(spec, state):
    """``p.compose(q)`` is first p, then q; the inverse undoes."""
    p, q = (Permutation(spec, spec.random(number)) for number in (1, 2))
    assert_same_state(p.invert().apply(p.apply(state)), state)
    assert_same_state(p.compose(q).apply(state), q.apply(p.apply(state)))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_programs_certify(chunk):
    """Hypothesis makes the programs, and cuts one that fails down to a few lines."""
    specs = []

    @seed(chunk)
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs())
    def certify(program):
        spec = certified(program)
        assert_laws(spec, program.build()[0].state_dict())
        specs.append(spec)

    certify()
    assert len(specs) >= EXAMPLES
    # A tracer that pinned everything would certify as well.
    assert sum(bool(spec.groups) for spec in specs) > 0.4 * EXAMPLES
    assert any(group.base for spec in specs for group in spec.groups)


def test_a_seed_is_one_program():
    first, again, other = program_of_seed(3), program_of_seed(3), program_of_seed(4)
    assert first.source == again.source != other.source
    torch.testing.assert_close(first.build()[0](*first.build()[1]), again.build()[0](*again.build()[1]), rtol=0, atol=0)


@pytest.mark.parametrize("number", range(0, 200, 10))
def test_programs_see_their_weights(number):
    """A program whose outputs do not depend on its weights would certify any permutation."""
    module, inputs = program_of_seed(number).build()
    outputs = module(*inputs)
    total = sum((output**3).sum() for output in ((outputs,) if isinstance(outputs, Tensor) else outputs))
    gradients = torch.autograd.grad(total, list(module.parameters()), allow_unused=True)
    seen = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
    assert sum(seen) > len(seen) / 2
