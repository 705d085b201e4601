"""Small trained networks, in a folder of the test's own."""

import shutil

import pytest

from fastmatch import checkpoints, networks
from fastmatch.checkpoints import Card
from fastmatch.cli import cli
from tests.cli.running import FILES, MODEL


@pytest.fixture(scope="session")
def trained_three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(FILES):
        train = ["train", MODEL, "--data", "digits", "--epochs", "4", "--seed", str(seed), "-o", str(folder / name)]
        cli.main(train, standalone_mode=False)
    checkpoints.write(folder / "wide.pt", networks.build("mlp(64, 17, 10)").state_dict(), Card(model="mlp(64, 17, 10)"))
    return folder


@pytest.fixture
def folder(trained_three, tmp_path, monkeypatch):
    """The folder that the test runs in: three trained networks, and wide.pt, one of another width."""
    shutil.copytree(trained_three, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
