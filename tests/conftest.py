"""What all tests share: one thread, so that runs in parallel do not fight over cores, and fixed seeds."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _reproducible():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits():
    from fastmatch import load_data

    return load_data("digits")
