from __future__ import annotations

import pytest
import torch

from fastmatch import networks
from fastmatch.errors import ModelError, OptionError
from fastmatch.training import average, running_averages

MODEL = "mlp(6, 5, 3, norm=batch)"


def states(count):
    result = [networks.build(MODEL).state_dict() for _ in range(count)]
    for number, state in enumerate(result):
        state["norm1.num_batches_tracked"] += number
    return result


def test_every_running_average_is_the_mean_of_what_came_before():
    given = states(4)
    for count, found in enumerate(running_averages(given), start=1):
        for name, tensor in found.items():
            assert tensor.dtype == given[0][name].dtype
            if tensor.is_floating_point():
                expected = torch.stack([state[name].double() for state in given[:count]]).mean(0)
                assert torch.equal(tensor, expected.float())
        assert found["norm1.num_batches_tracked"] == count - 1


def test_averages_leave_the_networks_as_they_were():
    given = states(3)
    copies = [{name: tensor.clone() for name, tensor in state.items()} for state in given]
    average(given)["linear1.weight"].zero_()
    assert all(torch.equal(state[name], copy[name]) for state, copy in zip(given, copies, strict=True) for name in copy)


def test_the_average_is_the_last_running_one_and_sums_are_wide():
    small = [{"w": torch.tensor([2.0**24])}] + [{"w": torch.ones(1)}] * 7
    assert average(small)["w"].item() == 2097153  # float32 next to (2**24 + 7) / 8; sums in float32 give 2097152
    assert average([{"w": torch.ones(2)}])["w"].tolist() == [1.0, 1.0]


def test_networks_that_have_no_average_are_refused():
    with pytest.raises(OptionError, match="no network to average"):
        average([])
    with pytest.raises(ModelError, match="network 1 has other tensors"):
        average([{"w": torch.ones(2)}, {"w": torch.ones(3)}])
    for other in ({"w": torch.ones(2)}, {"w": torch.ones(2), "n": torch.ones(1, dtype=torch.int64)}):
        with pytest.raises(ModelError, match="network 1 has other tensors"):
            average([{"w": torch.ones(2), "n": torch.tensor(3)}, other])
