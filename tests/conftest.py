"""What all tests share: one thread, so that runs in parallel do not fight over cores, fixed seeds, and a device.

GPU kernels run on the GPU where there is one, and are interpreted on the CPU elsewhere.
"""

import os

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when the first kernel is imported


@pytest.fixture
def device():
    return DEVICE


@pytest.fixture(autouse=True)
def _reproducible():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def digits():
    from fastmatch import load_data

    return load_data("digits")
