"""How the kernel is told to find clients that are gone."""

from __future__ import annotations

import socket

import pytest

from ingest_web import handover

pytestmark = pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="an option of Linux")


@pytest.mark.parametrize("stall_seconds", [6, 10, 30, 60])
def test_a_client_is_not_given_up_for_one_lost_packet(stall_seconds):
    """An idle client is asked at least three times before the time is over at which it is taken for gone."""
    options = dict(handover._tcp_options(stall_seconds))
    idle, interval = options[socket.TCP_KEEPIDLE], options[socket.TCP_KEEPINTVL]
    assert idle + 2 * interval < options[socket.TCP_USER_TIMEOUT] / 1000
    assert options[socket.TCP_KEEPCNT] >= 3


def test_an_idle_client_that_is_gone_is_found_within_the_stall_time():
    """The last question is answered, or not, when that is over."""
    options = dict(handover._tcp_options(6))
    assert options[socket.TCP_KEEPIDLE] + options[socket.TCP_KEEPCNT] * options[socket.TCP_KEEPINTVL] <= 6
