"""What alignments and barriers tell about networks: sequences, features, populations."""

from fastmatch.analysis.features import features
from fastmatch.analysis.layer_features import FeaturePair, Features, LayerFeatures
from fastmatch.analysis.spectra import Spectrum, weight_spectrum
from fastmatch.analysis.stitching import Stitch

__all__ = [
    "FeaturePair",
    "Features",
    "LayerFeatures",
    "Spectrum",
    "Stitch",
    "features",
    "weight_spectrum",
]
