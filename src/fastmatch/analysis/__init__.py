"""What alignments and barriers tell about networks: sequences, features, populations."""

from fastmatch.analysis.deviation import Deviation, output_deviation
from fastmatch.analysis.features import features
from fastmatch.analysis.indirect import indirect_barriers
from fastmatch.analysis.layer_features import FeaturePair, Features, LayerFeatures
from fastmatch.analysis.spectra import Spectrum, weight_spectrum
from fastmatch.analysis.stitching import Stitch

__all__ = [
    "Deviation",
    "FeaturePair",
    "Features",
    "LayerFeatures",
    "Spectrum",
    "Stitch",
    "features",
    "indirect_barriers",
    "output_deviation",
    "weight_spectrum",
]
