import errno
import hashlib
import os
import stat

import pytest

from fastmatch import files
from fastmatch.errors import OutputError

OLD = "what stood here"


@pytest.fixture(params=["new", "old"])
def target(request, tmp_path):
    """A file that may be written: one that is there already, or not yet."""
    path = tmp_path / "result.json"
    if request.param == "old":
        path.write_text(OLD)
    return path


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def failing(error):
    """Write half of a file, then fail."""

    def write(path):
        path.write_text("half of")
        raise error

    return write


def test_what_is_written_stands_there_alone(target):
    files.write_text(target, "übrig\n")
    assert target.read_bytes() == "übrig\n".encode()
    assert os.listdir(target.parent) == [target.name]


def test_the_suffix_is_known_while_writing(target):
    """Writers such as matplotlib choose the format by it."""
    files.write_atomic(target, lambda temporary: temporary.write_text(temporary.suffix))
    assert target.read_text() == ".json"


def test_the_target_is_untouched_until_all_is_written(target):
    before = content(target.parent)

    def write(temporary):
        temporary.write_text("new")
        assert {name: text for name, text in content(target.parent).items() if name != temporary.name} == before

    files.write_atomic(target, write)
    assert target.read_text() == "new"


def test_a_full_disk_leaves_what_stood_there_and_no_other_file(target):
    before = content(target.parent)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OutputError, match=r"^cannot write .*result\.json: No space left on device; .*$"):
        files.write_atomic(target, failing(full))
    assert content(target.parent) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a bug")], ids=["interruption", "bug"])
def test_any_other_failure_passes_through_and_leaves_no_file_either(target, error):
    before = content(target.parent)
    with pytest.raises(type(error)) as raised:
        files.write_atomic(target, failing(error))
    assert raised.value is error
    assert content(target.parent) == before


def test_a_failed_renaming_leaves_no_file_either(target, monkeypatch):
    before = content(target.parent)

    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        files.write_text(target, "new")
    assert content(target.parent) == before


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_permissions_are_those_of_any_new_file(target, umask, mode):
    """A temporary file is private; the result must not be."""
    before = os.umask(umask)
    try:
        files.write_text(target, "new")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="No such file or directory"):
        files.write_text(tmp_path / "none" / "x.json", "new")
    assert os.listdir(tmp_path) == []


def test_a_target_that_can_be_written_passes_the_check_and_stays_as_it_is(target):
    before = content(target.parent)
    files.check_target(target)
    assert content(target.parent) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "it is a folder"),
        ("none/x.json", "there is no folder .*none"),
        ("a_file/x.json", "there is no folder .*a_file"),
    ],
)
def test_a_target_that_cannot_be_written_fails_the_check(tmp_path, name, message):
    (tmp_path / "a_file").touch()
    with pytest.raises(OutputError, match=f"^cannot write .*{message}; .*$"):
        files.check_target(tmp_path / name)


def test_a_folder_without_permission_fails_the_check(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (tmp_path, os.W_OK))
    with pytest.raises(OutputError, match="no permission in"):
        files.check_target(tmp_path / "x.json")


def test_the_digest_is_that_of_the_content(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()
