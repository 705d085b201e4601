"""What alignments and barriers tell about networks: sequences, features, populations."""

from fastmatch.analysis.boundaries import Boundaries, boundaries
from fastmatch.analysis.clusters import Clusters, single_linkage
from fastmatch.analysis.deviation import Deviation, output_deviation
from fastmatch.analysis.features import features
from fastmatch.analysis.indirect import indirect_barriers
from fastmatch.analysis.layer_features import FeaturePair, Features, LayerFeatures
from fastmatch.analysis.population import Population, population
from fastmatch.analysis.redundancy import Reduction, merge_units, unit_similarity
from fastmatch.analysis.spectra import Spectrum, weight_spectrum
from fastmatch.analysis.stitching import Stitch
from fastmatch.analysis.widths import narrow, pad

__all__ = [
    "Boundaries",
    "Clusters",
    "Deviation",
    "FeaturePair",
    "Features",
    "LayerFeatures",
    "Population",
    "Reduction",
    "Spectrum",
    "Stitch",
    "boundaries",
    "features",
    "indirect_barriers",
    "merge_units",
    "narrow",
    "output_deviation",
    "pad",
    "population",
    "single_linkage",
    "unit_similarity",
    "weight_spectrum",
]
