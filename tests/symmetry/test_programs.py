"""Random programs: whatever the tracer leaves free is a symmetry, and nothing that a network does is an error."""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, seed, settings
from torch import Tensor

from fastmatch import Permutation, trace
from tests.problems import assert_same_state
from tests.programs import program_of_seed, programs

CHUNKS, EXAMPLES = 10, 30
TOLERANCE = 1e-9


def outputs_of(module, inputs):
    outputs = module(*inputs)
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def assert_certified(spec, module, inputs):
    """Prove the permutations of a spec."""
    spec.check()
    assert all(output.isfinite().all() for output in outputs_of(module, inputs))
    certificate = spec.certify(module, inputs)
    assert certificate.passed
    assert certificate.max_rel < TOLERANCE


def assert_laws(spec, state):
    """``p.compose(q)`` is first p, then q; the inverse undoes."""
    p, q = (Permutation(spec, spec.random(number)) for number in (1, 2))
    assert_same_state(p.invert().apply(p.apply(state)), state)
    assert_same_state(p.compose(q).apply(state), q.apply(p.apply(state)))


CASES = [*((chunk, "export") for chunk in range(CHUNKS)), (0, "run"), (1, "run")]


@pytest.mark.parametrize(("chunk", "method"), CASES)
def test_random_programs_certify(chunk, method):
    """Hypothesis makes the programs, and cuts one that fails down to a few lines."""
    specs = []

    @seed(chunk)
    @settings(max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(programs())
    def certify(program):
        module, inputs = program.build()
        assume(all(output.abs().max() > 0 for output in outputs_of(module, inputs)))  # else there is nothing to prove
        spec = trace(module, inputs, method=method)
        assert_certified(spec, module, inputs)
        assert_laws(spec, module.state_dict())
        specs.append(spec)

    certify()
    assert len(specs) >= EXAMPLES
    # A tracer that pinned everything would certify as well.
    assert sum(bool(spec.groups) for spec in specs) > 0.2 * EXAMPLES
    assert any(group.base for spec in specs for group in spec.groups)


def test_a_seed_is_one_program():
    first, again, other = program_of_seed(3), program_of_seed(3), program_of_seed(4)
    assert first.source == again.source != other.source
    for output, expected in zip(outputs_of(*again.build()), outputs_of(*first.build()), strict=True):
        torch.testing.assert_close(output, expected, rtol=0, atol=0)


@pytest.mark.parametrize("number", range(0, 200, 10))
def test_programs_see_their_weights(number):
    """A program whose outputs do not depend on its weights would certify any permutation."""
    module, inputs = program_of_seed(number).build()
    total = sum((output**3).sum() for output in outputs_of(module, inputs))
    gradients = torch.autograd.grad(total, list(module.parameters()), allow_unused=True)
    seen = [gradient is not None and bool(gradient.abs().max() > 0) for gradient in gradients]
    assert sum(seen) > len(seen) / 2
