"""Viewers that do not read, on a real node. `make bench-congestion` measures more of them, and what others notice."""

from __future__ import annotations

import pytest

from bench import congestion
from bench.sleepers import can_look

pytestmark = pytest.mark.skipif(not can_look(), reason="ss is not installed")


@pytest.mark.parametrize("padding_bytes", [0, congestion.LARGE_BYTES])
def test_a_viewer_that_does_not_read_takes_no_more_than_64_kib(padding_bytes):
    """In the process and in the kernel together, with a document of its own whose states are small or large."""
    memory = congestion.memory(congestion.Load("", viewers=50, padding_bytes=padding_bytes), cores=())
    assert memory.congested == memory.sleepers == 50
    assert memory.kernel_kib > 0
    assert memory.process_kib + memory.kernel_kib <= congestion.MOST_KIB


def test_who_reads_gets_everything_beside_those_who_do_not():
    """Every delivery of each window came, with sleepers on the same document and without. How soon is for the bench."""
    latency = congestion.others(documents=1, viewers=60, sleeping=10, rounds=1, cores=())
    assert len(latency.alone_ms) == len(latency.beside_ms) == 1
    assert latency.ratio > 0
