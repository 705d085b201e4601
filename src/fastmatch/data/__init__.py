"""How a data string finds a data set, and what a data set is."""

from fastmatch.data.fit import check_fit
from fastmatch.data.loading import is_builtin, load_data
from fastmatch.data.split import DataSet, Split, batch_count

__all__ = ["DataSet", "Split", "batch_count", "check_fit", "is_builtin", "load_data"]
