from __future__ import annotations

import importlib
import os
import subprocess
import sys
from unittest.mock import MagicMock

import pytest
import torch

from fastmatch import kernels
from fastmatch.errors import OptionError
from fastmatch.kernels import choose, dispatch, launch


def test_auto_keeps_tensors_on_the_cpu_with_the_reference():
    assert choose([torch.zeros(1)]) == ("reference", "the tensors are on the cpu")


def test_a_name_is_taken_at_its_word(device):
    tensors = [torch.zeros(1, device=device)]
    assert choose(tensors, "reference", better="x") == ("reference", "it was asked for")
    assert choose(tensors, "gpu", better="x") == ("gpu", "it was asked for")


def test_auto_takes_the_kernels_on_a_gpu_unless_something_speaks_against_it(monkeypatch):
    fake = torch.empty(1, device="meta")
    monkeypatch.setattr(dispatch, "_device_obstacle", lambda device: None)
    monkeypatch.setattr(dispatch, "interpreting", lambda: False)
    assert choose([fake]) == ("gpu", "the tensors are on meta")
    assert choose([fake], better="it is small") == ("reference", "it is small")
    assert choose([fake, fake.double()]) == ("reference", "float64 is not float32, float16 or bfloat16")


def test_kernels_that_cannot_run_are_refused_by_name(monkeypatch):
    with pytest.raises(OptionError, match=r"float64 is not float32.*use implementation reference"):
        choose([torch.zeros(1, dtype=torch.float64)], "gpu")
    with pytest.raises(OptionError, match="tensors are on 2 devices"):
        choose([torch.empty(1, device="meta"), torch.zeros(1)], "gpu")
    monkeypatch.setattr(dispatch, "interpreting", lambda: True)
    with pytest.raises(OptionError, match="TRITON_INTERPRET is set, and the tensors are on meta"):
        choose([torch.empty(1, device="meta")], "gpu")
    monkeypatch.setattr(dispatch, "interpreting", lambda: False)
    with pytest.raises(OptionError, match="made for NVIDIA GPUs, the tensors are on meta"):
        choose([torch.empty(1, device="meta")], "gpu")
    with pytest.raises(OptionError, match="the tensors are on cpu"):
        choose([torch.zeros(1)], "gpu")
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match="triton is not installed"):
        choose([torch.zeros(1)], "gpu")


def test_old_gpus_are_left_to_the_reference(monkeypatch):
    dispatch._device_obstacle.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert "compute capability 8.0, cuda:0 has 7.5" in dispatch._device_obstacle(torch.device("cuda:0"))
    dispatch._device_obstacle.cache_clear()


def test_an_unknown_name_is_refused():
    with pytest.raises(OptionError, match="implementation 'fast' is unknown"):
        choose([torch.zeros(1)], "fast")


@pytest.mark.parametrize("name", ["combine", "feature_products", "gram", "moments", "scores"])
def test_what_is_launched_is_what_is_compiled_ahead_of_time(name, monkeypatch, device):
    module = importlib.import_module(f"fastmatch.kernels.{name}.gpu")
    launched = []
    monkeypatch.setattr(module, "launch", lambda kernel, variant, *rest: launched.append((kernel, variant)))
    for dtype in dispatch.DTYPES:
        for size in (1, 40, 3000):
            values = torch.ones(2, size, device=device, dtype=dtype)
            {
                "combine": lambda v: kernels.combine(v, torch.ones(1, 2), implementation="gpu"),
                "feature_products": lambda v: kernels.feature_products([v, v], implementation="gpu"),
                "gram": lambda v: kernels.gram([(v.T, v.T)], implementation="gpu"),
                "moments": lambda v: kernels.Moments(implementation="gpu").update(v, v),
                "scores": lambda v: kernels.scores(v, v[:, 0].long() * 0, implementation="gpu"),
            }[name](values)
    forms = list(module.variants())
    assert len(launched) == 9
    assert all(kernel is module.kernel and variant in forms for kernel, variant in launched)


def test_an_empty_grid_launches_nothing():
    kernel = MagicMock()
    launch.launch(kernel, launch.Variant({}, {}), (3, 0), torch.device("cpu"), ())
    assert kernel.mock_calls == []
    launch.launch(kernel, launch.Variant({}, {}), (3, 1), torch.device("cpu"), ())
    assert kernel.mock_calls != []


def test_triton_is_not_needed_on_the_cpu():
    script = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch; from fastmatch import kernels\n"
        "print(kernels.gram([(torch.ones(2, 3), torch.ones(2, 3))]).tolist())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[[3.0, 3.0], [3.0, 3.0]]"
