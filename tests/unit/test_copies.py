"""Copies in the temporary folder, of processes that live and of others that were killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile

import pytest

from shared import copies

MAKE_ONE_AND_WAIT = """
from shared import copies
with copies.new() as (path, file):
    print(path, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The temporary folder, of this process and of those that it starts."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    tempfile.tempdir = None


def test_a_copy_is_gone_when_it_is_no_longer_in_use(folder):
    """Also when it could not be filled."""
    with pytest.raises(KeyError), copies.new() as (path, file):
        file.write(b"x")
        file.flush()
        assert path.read_bytes() == b"x"
        raise KeyError
    assert list(folder.iterdir()) == []


def test_of_a_process_that_was_killed_the_next_copy_removes_what_it_had(folder):
    """And of one that lives nothing."""
    other = folder / "ingest-copy-of-something-else"
    other.mkdir()
    command = [sys.executable, "-c", MAKE_ONE_AND_WAIT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        left = folder / process.stdout.readline().strip()
        with copies.new():
            assert left.exists()
        process.send_signal(signal.SIGKILL)
    assert left.exists()
    with copies.new() as (path, _):
        assert {*folder.iterdir()} == {path, other}
    assert list(folder.iterdir()) == [other]
