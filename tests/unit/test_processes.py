"""What processes are called."""

from __future__ import annotations

import os

from shared import processes


def test_no_two_have_the_same_name():
    """Also where host name and process id are the same, as in containers."""
    one, other = processes.new_name(), processes.new_name()
    assert one != other
    assert f".{os.getpid()}." in one
