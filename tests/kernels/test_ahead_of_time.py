"""Every form of every kernel compiles for GPUs that need not be there, and fits them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastmatch.kernels

FOLDER = Path(fastmatch.kernels.__file__).parent
KERNELS = sorted(path.parent.name for path in FOLDER.glob("*/gpu.py"))
SHARED = {80: 163 << 10, 90: 227 << 10}  # Bytes of a program at most: CUDA programming guide, compute capabilities.


def test_there_are_kernels():
    assert KERNELS == ["combine", "feature_products", "gram", "moments", "scores"]


@pytest.mark.parametrize("capability", SHARED)
@pytest.mark.parametrize("name", KERNELS)
def test_every_form_compiles_without_spilling_and_fits_into_shared_memory(name, capability, tmp_path):
    command = [sys.executable, Path(__file__).with_name("ahead_of_time.py"), f"fastmatch.kernels.{name}.gpu"]
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([*command, str(capability)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    forms = json.loads(done.stdout)
    assert forms
    for form in forms:
        constants = form["variant"]
        wide = constants.get("ALIGNED") == "True" or constants.get("LAYOUT") in ("samples", "units")
        assert (form["wide_loads"] > 0) == wide, f"loads of 16 bytes: {form}"
        assert form["wide_stores"] > 0 or "ALIGNED" not in constants or not wide, f"stores of 16 bytes: {form}"
        assert (form["tensor_cores"] > 0) == (constants.get("PRODUCT", "ieee") != "ieee"), f"tensor cores: {form}"
        assert form["stack"] == form["local"] == 0, f"spills: {form}"
        assert form["shared"] <= SHARED[capability], f"shared memory: {form}"
