"""The plane through three networks: corners, projections and combinations are exact."""

import json

import numpy as np
import pytest
import torch

from fastmatch import Evaluation, evaluate
from fastmatch.analysis import plane
from fastmatch.errors import ModelError, OptionError
from tests.analysis.trained import data, module, run
from tests.problems import build


@pytest.fixture
def some():
    return data().take(80)


def corners():
    return [run(seed)[24] for seed in range(3)]


def vector(state):
    return torch.cat([tensor.double().reshape(-1) for tensor in state.values()]).numpy()


def combined(states, row):
    return {name: sum(c * state[name].double() for c, state in zip(row, states, strict=True)) for name in states[0]}


def test_corners_have_the_losses_of_the_networks_and_their_distances(some):
    states = corners()
    found = plane(module(), states, some, grid=2)
    for split in ("train", "test"):
        alone: Evaluation = evaluate(module(), states, np.eye(3), getattr(some, split))
        np.testing.assert_allclose(found.evaluations[split].loss[-3:], alone.loss, rtol=1e-6)
        assert (found.evaluations[split].error[-3:] == alone.error).all()
    for i in range(3):
        for j in range(i):
            apart = np.linalg.norm(vector(states[i]) - vector(states[j]))
            assert np.linalg.norm(found.corners[i] - found.corners[j]) == pytest.approx(apart, rel=1e-9)
    assert found.corners[0].tolist() == [0, 0]
    assert found.corners[1, 1] == 0 < found.corners[2, 1]


def test_points_of_the_plane_are_projected_on_themselves(some):
    states = corners()
    rows = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.2, 0.5, 0.3], [2.0, -1.5, 0.5]])
    path = [combined(states, row) for row in rows]
    found = plane(module(), states, some, paths={"path": path}, grid=2)
    points, distances = found.paths["path"]
    np.testing.assert_allclose(points, rows @ found.corners, atol=1e-8)
    np.testing.assert_allclose(distances, 0, atol=1e-5)
    for axis, grid in enumerate((found.x, found.y)):
        assert grid[0] < points[:, axis].min()
        assert points[:, axis].max() < grid[-1]


def test_projections_are_at_right_angles(some):
    states, other = corners(), run(3)[24]
    found = plane(module(), states, some, paths={"other": [other]}, grid=2)
    origin, first, second = map(vector, states)
    basis, _ = np.linalg.qr(np.stack([first - origin, second - origin], 1))
    expected = np.linalg.norm(vector(other) - origin - basis @ (basis.T @ (vector(other) - origin)))
    assert found.paths["other"].distances == pytest.approx([expected], rel=1e-9)


def test_the_grid_is_evaluated_where_it_says(some):
    states = corners()
    found = plane(module(), states, some, grid=3, margin=0.5)
    assert found.surface("test").shape == (3, 3)
    origin, first, second = map(vector, states)
    basis = np.stack([first - origin, second - origin], 1)
    weights = origin + basis @ np.linalg.solve((found.corners[1:]).T, [found.x[2], found.y[0]])
    network = build("mlp(64, 24, 20, 10)")
    torch.nn.utils.vector_to_parameters(torch.from_numpy(weights).float(), network.parameters())
    alone = evaluate(module(), [network.state_dict()], np.ones((1, 1)), some.test)
    assert found.surface("test")[0, 2] == pytest.approx(alone.loss[0], rel=1e-5)
    assert found.surface("test", "error")[0, 2] == pytest.approx(alone.error[0], abs=0.03)
    json.dumps(found.to_json())


def test_what_spans_no_plane_is_refused(some):
    a, b, c = corners()
    line = {name: 0.5 * (a[name] + b[name]) for name in a}
    for three in ([a, b, line], [a, a, b], [a, b, b], [a, a, a]):
        with pytest.raises(OptionError, match="on one line"):
            plane(module(), three, some)
    with pytest.raises(OptionError, match="received 2"):
        plane(module(), [a, b], some)
    with pytest.raises(OptionError, match="grid of at least 2"):
        plane(module(), [a, b, c], some, grid=1)


def test_networks_that_lie_nowhere_are_refused(some):
    a, b, c = corners()
    name = next(iter(a))
    broken, other = {**c, name: torch.full_like(c[name], torch.nan)}, {**c, name: c[name][:1]}
    for three, paths in (([a, b, broken], {}), ([a, b, c], {"run": [a, broken]})):
        with pytest.raises(ModelError, match="NaN or infinite values"):
            plane(module(), three, some, paths=paths, grid=2)
    for three, paths in (([a, b, other], {}), ([a, b, c], {"run": [a, other]})):
        with pytest.raises(ModelError, match="does not fit the module"):
            plane(module(), three, some, paths=paths, grid=2)
