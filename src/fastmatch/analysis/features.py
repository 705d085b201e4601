"""Layerwise linear feature connectivity, and the conditions behind it (Zhou et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor, nn

from fastmatch.analysis.connectivity import measure_ends, measure_point
from fastmatch.analysis.layer_features import FeaturePair, Features, layer_features
from fastmatch.analysis.layers import Layered, find_layers
from fastmatch.analysis.stitching import Stitch, cuts, measure_stitch, stitched
from fastmatch.data import DataSet
from fastmatch.errors import ModelError, OptionError
from fastmatch.interpolation import Evaluator, alpha_grid
from fastmatch.permutation import Permutation

State = Mapping[str, Tensor]
BATCH_SIZE = 250


def features(
    module: nn.Module,
    a: State,
    b: State,
    data: DataSet,
    *,
    permutation: Permutation | None = None,
    alphas: int = 5,
    bn: Literal["reset", "keep"] = "reset",
    batch_size: int = BATCH_SIZE,
    known: MutableMapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Features:
    """Compare the features of the networks between a and b with interpolated features, layer by layer.

    Features are those of the test examples; one batch of them is in memory at a time. A layer is a convolution or a
    linear layer with a weight of its own, with the elementwise operations and normalisations behind it: its features
    are the last of their results before the next layer runs. The outputs of the network always are among them.

    Parameters
    ----------
    module
        The architecture; its own weights are neither used nor changed. It runs in evaluation mode.
    a, b
        State dicts.
    permutation
        ``permutation.apply(b)`` lines up with a: it is compared as the pair ``"aligned"``, beside the one as given.
    alphas
        Number of interpolated networks, odd, both ends included.
    bn
        ``"reset"``: networks with BatchNorm, stitched and interpolated ones and both ends alike, get statistics of
        their own on the training examples. ``"keep"``: statistics are interpolated and stitched like weights, as in the
        published code.
    batch_size
        Examples whose features are in memory.
    known
        Figures of earlier calls with the same arguments, by piece; those computed are put in.
    progress
        Called with (pieces done, pieces).

    Raises
    ------
    OptionError
        An even number of alphas, or an unknown option.
    SymmetryError
        The network cannot be exported, or has no layers.
    ModelError
        A network holds NaN or infinite values, or a layer gives them; or as :func:`fastmatch.evaluate`.
    DataError
        As :func:`fastmatch.evaluate`.

    References
    ----------
    Zhou et al., "Going Beyond Linear Mode Connectivity: The Layerwise Linear Feature Connectivity", NeurIPS 2023:
    definitions 2 to 4, sections 4 and 5, appendix B.
    """
    if alphas < 3 or alphas % 2 == 0:
        raise OptionError(f"alphas must be odd and at least 3, so that the midpoint is among them; received {alphas}")
    if bn not in ("reset", "keep"):
        raise OptionError(f"bn {bn!r} is unknown; choose reset or keep")
    for name, network in (("a", a), ("b", b)):
        if broken := [entry for entry, tensor in network.items() if not tensor.isfinite().all()]:
            raise ModelError(f"network {name} has NaN or infinite values in {broken[0]!r}; features cannot be compared")
    evaluator = Evaluator(module, {"test": data.test}, data.train, bn=bn)
    grid = alpha_grid(alphas)
    networks = {"unaligned": b} | ({} if permutation is None else {"aligned": permutation.apply(b)})
    evaluator.states([a, b], np.eye(2)[:1])  # whatever does not fit is said before the network is exported
    layered = find_layers(module, next(iter(data.test.batches(batch_size)))[0])
    measures = {
        name: _Measurement(layered, evaluator, (a, network), grid, data, batch_size)
        for name, network in networks.items()
    }
    pieces = [(f"{name}, {piece.key}", piece) for name, measure in measures.items() for piece in measure.pieces()]
    known = {} if known is None else known
    for number, (key, piece) in enumerate(pieces):
        if key not in known:
            known[key] = piece.measure()
        if progress is not None:
            progress(number + 1, len(pieces))
    pairs = {name: measure.pair(known, name) for name, measure in measures.items()}
    return Features(grid, len(data.test), pairs)


class _Piece(NamedTuple):
    """A part of the figures that is computed at once, as plain data."""

    key: str
    measure: Callable[[], Any]


class _Measurement:
    """The figures of one pair, in pieces."""

    def __init__(
        self,
        layered: Layered,
        evaluator: Evaluator,
        networks: tuple[State, State],
        grid: np.ndarray,
        data: DataSet,
        batch_size: int,
    ) -> None:
        self._layered, self._evaluator, self._networks = layered, evaluator, networks
        self._grid, self._data, self._batch_size = grid, data, batch_size
        self._ends: tuple[State, State] | None = None

    def pieces(self) -> Iterator[_Piece]:
        """Ends, interpolated networks, stitched networks."""
        yield _Piece("ends", self._measure_ends)
        for alpha in self._grid.tolist():
            yield _Piece(f"alpha {alpha:.6g}", partial(self._measure_point, alpha))
        for after, of_a in cuts(self._layered):
            yield _Piece(f"stitched after {after}", partial(self._measure_stitch, after, of_a))

    def pair(self, known: Mapping[str, Any], name: str) -> FeaturePair:
        """Record of all pieces."""
        points = [known[f"{name}, alpha {alpha:.6g}"] for alpha in self._grid.tolist()]
        layers = [
            layer_features(layer.name, known[f"{name}, ends"][place], [_at(point, place) for point in points])
            for place, layer in enumerate(self._layered.layers)
        ]
        stitching = [_stitch(known[f"{name}, stitched after {after}"]) for after, _ in cuts(self._layered)]
        return FeaturePair(tuple(layers), tuple(stitching))

    def _settled(self) -> tuple[State, State]:
        """Both ends as they are evaluated."""
        if self._ends is None:
            first, second = self._evaluator.states(self._networks, np.eye(2))
            self._ends = first, second
        return self._ends

    def _measure_ends(self) -> list[dict[str, Any]]:
        return measure_ends(self._layered, self._settled(), self._grid.tolist(), self._data.test, self._batch_size)

    def _measure_point(self, alpha: float) -> dict[str, Any]:
        (state,) = self._evaluator.states(self._networks, np.array([[1 - alpha, alpha]]))
        return measure_point(self._layered, self._settled(), state, alpha, self._data.test, self._batch_size)

    def _measure_stitch(self, after: str | None, of_a: frozenset[str]) -> dict[str, Any]:
        return asdict(measure_stitch(self._evaluator, "test", stitched(*self._networks, of_a), after))


def _stitch(plain: Mapping[str, Any]) -> Stitch:
    """A record that was kept as JSON has None for what is not finite."""
    read: dict[str, Any] = {name: math.nan if value is None else value for name, value in plain.items()}
    return Stitch(**{**read, "after": plain["after"]})


def _at(point: Mapping[str, Any], place: int) -> dict[str, Any]:
    return {name: layers[place] for name, layers in point.items()}
