"""What a comparison of features gives: figures of every layer and of stitched networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastmatch.analysis.spectra import Spectrum
from fastmatch.analysis.stitching import Stitch


@dataclass(frozen=True, kw_only=True)
class LayerFeatures:
    """What two networks a and b say of one layer.

    Figures over examples (the first axis of the features) leave out those for which they do not exist, since all
    features are zero.

    Attributes
    ----------
    name
        Module of the layer, in order of execution; ``output`` where no layer gives the outputs.
    cosine, cosine_sd
        Of the features of the interpolated network with the interpolated features, mean and standard deviation over
        examples, float64, shape [alphas] (definition 2).
    scale, scale_sd
        The multiple of the interpolated features that is closest to those of the interpolated network, likewise (c).
    baseline, baseline_sd
        Cosine of the features of a and b.
    additivity
        Normalised distance between the two sides of definition 3: ReLU of the interpolated pre-activations, and
        interpolated ReLUs; mean over examples, shape [alphas]. None without a ReLU behind the layer.
    largest_additivity
        Mean over examples of the largest over the alphas.
    commutativity
        Normalised distance between ``W_a H_a + W_b H_b`` and ``W_a H_b + W_b H_a``, over all examples together
        (definition 4); H is what the layer reads. None where there is no layer, or a side is zero.
    weight_distance, input_distance
        Normalised distances of W_a and W_b, and of H_a and H_b, that it is compared with.
    weights, activations
        Singular values for a and b. The activations are the features, units against examples and positions.
    silent
        Number of examples for which all features of a, or of b, are zero.
    """

    name: str
    cosine: np.ndarray
    cosine_sd: np.ndarray
    scale: np.ndarray
    scale_sd: np.ndarray
    baseline: float
    baseline_sd: float
    additivity: np.ndarray | None
    largest_additivity: float | None
    commutativity: float | None
    weight_distance: float | None
    input_distance: float | None
    weights: tuple[Spectrum, Spectrum] | None
    activations: tuple[Spectrum, Spectrum]
    silent: int


@dataclass(frozen=True)
class FeaturePair:
    """Layers of a pair in order of execution, and its stitched networks from b alone to a alone."""

    layers: tuple[LayerFeatures, ...]
    stitching: tuple[Stitch, ...]

    def stitch(self, layer: str) -> Stitch | None:
        """The network stitched behind a layer, if it can be."""
        return next((stitch for stitch in self.stitching if stitch.after == layer), None)


@dataclass(frozen=True)
class Features:
    """Features of two networks compared: ``pairs["unaligned" | "aligned"]``.

    Attributes
    ----------
    alphas
        Interpolated networks, ``linspace(0, 1, n)`` with the midpoint among them.
    examples
        Test examples.
    """

    alphas: np.ndarray
    examples: int
    pairs: Mapping[str, FeaturePair]

    @property
    def midpoint(self) -> int:
        """Place of alpha 1/2."""
        return len(self.alphas) // 2

    def lowest(self, pair: str) -> LayerFeatures:
        """The layer whose features interpolate worst at the midpoint, of those that have a cosine there."""
        cosines = [layer.cosine[self.midpoint] for layer in self.pairs[pair].layers]
        return self.pairs[pair].layers[int(np.argmin(np.nan_to_num(cosines, nan=np.inf)))]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        pairs = {
            name: {
                "layers": [_plain(layer) for layer in pair.layers],
                "stitching": [asdict(stitch) for stitch in pair.stitching],
            }
            for name, pair in self.pairs.items()
        }
        return {"alphas": self.alphas.tolist(), "examples": self.examples, "pairs": pairs}


def _plain(layer: LayerFeatures) -> dict[str, Any]:
    result = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(layer).items()}
    for name in ("weights", "activations"):
        if (spectra := getattr(layer, name)) is not None:
            result[name] = {
                side: {"stable_rank": spectrum.stable_rank, "singular_values": spectrum.values.tolist()}
                for side, spectrum in zip("ab", spectra, strict=True)
            }
    return result


def layer_features(name: str, ends: Mapping[str, Any], points: Sequence[Mapping[str, Any]]) -> LayerFeatures:
    """Figures of one layer, from plain data."""
    curves: dict[str, Any] = {}
    for quantity in ("cosine", "scale"):
        means, deviations = zip(*(point[quantity] for point in points), strict=True)
        curves |= {quantity: _array(means), f"{quantity}_sd": _array(deviations)}
    baseline, baseline_sd = _array(ends["baseline"]).tolist()
    return LayerFeatures(
        name=name,
        **curves,
        baseline=baseline,
        baseline_sd=baseline_sd,
        additivity=_array(ends["additivity"]) if "additivity" in ends else None,
        largest_additivity=ends.get("largest_additivity"),
        commutativity=ends.get("commutativity"),
        weight_distance=ends.get("weight_distance"),
        input_distance=ends.get("input_distance"),
        weights=_spectra(ends["weights"]) if "weights" in ends else None,
        activations=_spectra(ends["activations"]),
        silent=ends["silent"],
    )


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _spectra(values: list[list[float]]) -> tuple[Spectrum, Spectrum]:
    first, second = (Spectrum(np.array(side)) for side in values)
    return first, second
