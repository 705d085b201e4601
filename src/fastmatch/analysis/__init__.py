"""What alignments and barriers tell about networks: sequences, features, populations."""

from fastmatch.analysis.boundaries import Boundaries, boundaries
from fastmatch.analysis.children import Children, children
from fastmatch.analysis.clusters import Clusters, single_linkage
from fastmatch.analysis.deviation import Deviation, output_deviation
from fastmatch.analysis.features import features
from fastmatch.analysis.indirect import indirect_barriers
from fastmatch.analysis.layer_features import FeaturePair, Features, LayerFeatures
from fastmatch.analysis.merge import Figures, Merge, ensemble, merge
from fastmatch.analysis.methods import UNALIGNED, MethodComparison, compare_methods
from fastmatch.analysis.plane import Plane, Projection, plane
from fastmatch.analysis.population import Population, population
from fastmatch.analysis.redundancy import Reduction, merge_units, unit_similarity
from fastmatch.analysis.rewind import layers, rewind, rewound_layers
from fastmatch.analysis.routes import RouteResult, compose_route, routes
from fastmatch.analysis.spectra import Spectrum, weight_spectrum
from fastmatch.analysis.stitching import Stitch
from fastmatch.analysis.trajectory import Trajectory, fixed_fraction, simultaneous_barriers, trajectory
from fastmatch.analysis.widths import narrow, pad

__all__ = [
    "UNALIGNED",
    "Boundaries",
    "Children",
    "Clusters",
    "Deviation",
    "FeaturePair",
    "Features",
    "Figures",
    "LayerFeatures",
    "Merge",
    "MethodComparison",
    "Plane",
    "Population",
    "Projection",
    "Reduction",
    "RouteResult",
    "Spectrum",
    "Stitch",
    "Trajectory",
    "boundaries",
    "children",
    "compare_methods",
    "compose_route",
    "ensemble",
    "features",
    "fixed_fraction",
    "indirect_barriers",
    "layers",
    "merge",
    "merge_units",
    "narrow",
    "output_deviation",
    "pad",
    "plane",
    "population",
    "rewind",
    "rewound_layers",
    "routes",
    "simultaneous_barriers",
    "single_linkage",
    "trajectory",
    "unit_similarity",
    "weight_spectrum",
]
