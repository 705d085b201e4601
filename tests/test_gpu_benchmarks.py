"""The GPU benchmarks but for their clock: cases and checks at sizes that take seconds, verdicts on times made up."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu, provenance
from benchmarks.on_gpu import clock, judge, suite
from benchmarks.on_gpu.case import FULL, Alternative, Case, Kernel, Sizes, Target, relative_error
from benchmarks.on_gpu.clock import Ceilings
from fastmatch import networks

TINY = Sizes(
    models={"MLP": "mlp(6, 8, 5, 3)", "CNN x32": "vgg11(width=2, size=8)"},
    halves=("MLP",),
    examples=3,
    stages=((5, 3), (8, 1)),
    far=(4, 3),
    parameters={"few": 67},
    combinations=(1, 3),
    logits=((2, 7, 3),),
    features=(3, 4, 2, 2),
    matched=("mlp(6, 8, 5, 3)", 40),
)
CASES = {case.title: case for case in suite.all_cases(TINY, "gpu")}
SPEEDS = Ceilings(copy=1e12, fp32=1e12, tf32=3e12, bf16=6e12)


@pytest.fixture
def without_gpu(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))  # puts back what the script adds
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.parametrize("title", CASES)
def test_every_form_and_every_alternative_gives_the_answer(title, device):
    case = CASES[title]
    checked = judge.check(case, device)
    assert checked.errors.keys() == case.kernels.keys() | case.alternatives.keys()
    for name, kernel in case.kernels.items():
        assert checked.errors[name] <= kernel.tolerance
    for kernel in case.kernels.values():
        assert any(checked.errors[name] <= kernel.counts for name in case.alternatives)


@pytest.mark.parametrize("title", ["gram MLP linear1 bf16", "gram_update MLP linear1 30%", "moments 3x5x3x3 fp32"])
def test_alternatives_are_compiled_whole(title, device):
    case = CASES[title]
    inputs = case.make(device, 0)
    torch.compiler.reset()
    for alternative in case.alternatives.values():
        whole = torch.compile(alternative.run, backend="eager", fullgraph=True, dynamic=False)
        assert case.error(whole, inputs, case.exact(inputs)) < 0.05


def test_there_are_cases_for_every_group_of_every_network():
    small = {name: model for name, model in FULL.models.items() if name != "ResNet-20 x32"}  # of 1.1 GB
    titles = [case.title for case in suite.all_cases(FULL._replace(models=small))]
    assert len(titles) == len(set(titles))
    assert sum("ResNet-20 x4 " in title and title.endswith("fp32") and "gram " in title for title in titles) == 8
    assert sum(title.startswith("gram VGG-16 ") for title in titles) == 12
    assert sum(title.startswith("gram_update ") and title.endswith(" 10%") for title in titles) == 20
    assert sum(title.startswith("moments ") for title in titles) == 35
    assert sum(title.startswith("combine ") for title in titles) == 24


@pytest.mark.parametrize("name", ["ResNet-20 x4", "VGG-16"])
def test_sets_are_as_large_as_the_networks_they_are_named_for(name):
    module = networks.build(FULL.models[name])
    assert FULL.parameters[name] == sum(8 * math.ceil(each.numel() / 8) for each in module.parameters())


def _square(values):
    return values * values


TWICE = (Target("x best", 2.0),)


def made_up(run=_square, targets=TWICE, **options):
    """A case that doubles as its own alternative, with 1 MB and 2 MFLOP."""
    return Case(
        "family",
        "name",
        lambda device, seed: torch.ones(3, device=device) + seed,
        lambda inputs: [_square(inputs.double())],
        {"auto": Kernel(run, 1e-6, targets=targets)},
        {"slow": Alternative(_square), "fast": Alternative(_square), "wrong": Alternative(torch.neg)},
        **{"moved": 1_000_000, "operations": 2_000_000} | options,
    )


def seconds(called, queued=None):
    return {"called": [called] * 3, "queued": [called if queued is None else queued] * 3}


def verdict(case, **times):
    checked = judge.check(case, torch.device("cpu"))
    (found,) = judge.row(case, checked, times, SPEEDS)["verdicts"]
    return found


TIMES = {"slow": seconds(9e-6), "fast": seconds(6e-6), "wrong": seconds(1e-6)}


@pytest.mark.parametrize(("own", "met"), [(2e-6, True), (4e-6, False)])
def test_a_kernel_is_held_against_the_fastest_alternative_that_is_right(own, met):
    found = verdict(made_up(), auto=seconds(own), **TIMES)
    assert found["best"] == "fast"
    assert found["x best"] == pytest.approx(6e-6 / own)
    assert found["met"] is met


def test_without_a_right_alternative_a_target_is_not_judged():
    found = verdict(made_up(), auto=seconds(1e-6), wrong=seconds(5e-6))
    assert found["x best"] is None
    assert found["met"] is None


@pytest.mark.parametrize(
    ("operations", "queued", "bound", "met"),
    [
        (0, 1.5e-6, "copy", True),
        (0, 1.8e-6, "copy", False),
        (4_000_000, 5e-6, "product", True),
        (4_000_000, 6e-6, "product", False),
    ],
)
def test_fractions_are_of_the_time_that_the_gpu_works(operations, queued, bound, met):
    case = made_up(targets=(Target("bound", 0.6, 0.7),), operations=operations)
    found = verdict(case, auto=seconds(1.0, queued), **TIMES)
    assert found["bound"] == bound
    assert found[f"of {bound}"] == pytest.approx(max(1e-6, operations / 1e12) / queued)
    assert found["met"] is met


@pytest.mark.parametrize("wrong", [torch.neg, lambda values: values * torch.nan, lambda values: values[:2] ** 2])
def test_a_wrong_answer_is_found(wrong):
    case = made_up(wrong)
    checked = judge.check(case, torch.device("cpu"))
    measured = judge.row(case, checked, {"auto": seconds(1e-6), **TIMES}, SPEEDS)
    assert not measured["agrees"]
    table = suite.text(SPEEDS, [measured])
    assert "WRONG" in table
    assert "wrong answers: 1" in table


def test_a_kernel_that_fails_is_a_wrong_answer_and_the_others_go_on():
    def fails(values):
        raise RuntimeError("no such instruction")

    case = made_up(fails)
    checked = judge.check(case, torch.device("cpu"), (RuntimeError,))
    measured = judge.row(case, checked, TIMES, SPEEDS)
    assert not measured["agrees"]
    assert "failed: family name auto: RuntimeError: no such instruction" in suite.text(SPEEDS, [measured])


def test_compiling_stops_when_its_time_is_up():
    case = made_up()
    case = dataclasses.replace(case, alternatives={"slow": Alternative(_square, worth_compiling=True)})
    assert "slow compiled" in judge.check(case, torch.device("cpu"), backend="eager").calls
    checked = judge.check(case, torch.device("cpu"), backend="eager", seconds=0.0)
    assert checked.left_out == {"slow compiled": judge.TOO_LONG}


def test_errors_are_relative_to_the_answer():
    assert relative_error(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 4.0])) == pytest.approx(0.75)
    assert relative_error(torch.tensor([1e-3]), torch.tensor([0.0])) == pytest.approx(1e-3)


@pytest.fixture
def host_clock(monkeypatch):
    """Events of the GPU by the clock of the CPU, which does the work as it is called."""

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = time.perf_counter()

        def synchronize(self):
            pass

        def elapsed_time(self, end):
            return 1e3 * (end.at - self.at)

    pauses = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "_sleep", pauses.append, raising=False)
    return pauses


def test_the_clock_gives_seconds_of_one_call_and_goes_through_all_inputs(host_clock):
    seen = []
    calls = {"sleep": lambda which: (seen.append(which), time.sleep(2e-3)), "nothing": seen.append}
    times = clock.paired(calls, [0, 1, 2])
    assert clock.ROUNDS[0] <= len(times["sleep"]["called"]) <= clock.ROUNDS[1]
    assert all(2e-3 <= value < 2e-2 for value in times["sleep"]["called"])
    assert max(times["nothing"]["called"]) < 1e-3
    assert seen == [number % 3 for number in range(len(seen))]
    assert len(host_clock) == 2 * len(times["sleep"]["queued"])


def test_small_inputs_are_rotated_and_large_ones_come_twice(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(L2_cache_size=50_000_000))
    assert [clock.count_sets(size, torch.device("cuda")) for size in (0, 10_000_000, 10**10)] == [128, 20, 2]


def test_all_is_checked_written_and_printed(device, tmp_path, monkeypatch, capsys):
    def paired(calls, sets):
        assert len(sets) == 2
        return {name: seconds(1e-5 * number) for number, name in enumerate(calls, start=1)}

    monkeypatch.setattr(clock, "ceilings", lambda device: SPEEDS)
    monkeypatch.setattr(clock, "count_sets", lambda size, device: 2)
    monkeypatch.setattr(clock, "paired", paired)
    monkeypatch.setattr(suite, "BACKEND", "eager")
    monkeypatch.delenv("FASTMATCH_DATA", raising=False)
    assert suite.run("*", tmp_path, device, TINY, "gpu")
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert [row["case"] for row in result["rows"]][:-1] == list(CASES)
    assert result["ceilings"] == SPEEDS._asdict()
    assert "triton" in result["versions"]
    assert result["rows"][0]["times"]["summed compiled"]["called_median"] > 0
    last = result["rows"][-1]
    assert last["note"] == "random images"
    assert last["seconds"].keys() == {"kernels", "torch"}
    assert {"data to the GPU", "forward passes", "moments", "assignment", "rest"} <= last["seconds"]["kernels"].keys()
    assert last["seconds"]["torch"]["moments"] > 0
    printed = capsys.readouterr().out
    for word in ("summed compiled ms", "x best", "of copy", "forward passes", "gram, gpu highest over", "targets met:"):
        assert word in printed


def test_without_a_gpu_there_is_one_line_that_says_so(without_gpu, capsys):
    assert gpu.main(["--only", "gram*"]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert "needs an NVIDIA GPU: torch" in captured.err
    assert captured.out == ""


def test_results_name_the_version_of_triton():
    assert provenance.provenance()["versions"]["triton"]
