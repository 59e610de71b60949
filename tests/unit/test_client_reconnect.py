"""When the client connects again, as numbers."""

from __future__ import annotations

import pytest

from ingest_client.reconnect import ReconnectPolicy

POLICY = ReconnectPolicy(patience_seconds=60, longest_seconds=15)


def test_after_a_stream_with_news_the_servers_wish_is_honoured() -> None:
    """The first wait is what the server asked for, and not less."""
    assert POLICY.delay_seconds(2, fruitless=0, chance=0) == 2


def test_each_failure_doubles_the_wait_up_to_a_limit() -> None:
    """A server that stays away is asked less and less often."""
    assert [POLICY.delay_seconds(2, fruitless, chance=0) for fruitless in (1, 2, 3, 4, 99)] == [2, 4, 8, 15, 15]


def test_chance_spreads_the_clients() -> None:
    """Clients that were cut off together come back over half as long again."""
    assert [POLICY.delay_seconds(2, 0, chance) for chance in (0, 0.5, 1)] == [2, 2.5, 3]


def test_a_server_that_asks_for_no_wait_is_not_hammered() -> None:
    """``retry: 0`` counts after news only."""
    assert POLICY.delay_seconds(0, fruitless=0, chance=0) == 0
    assert POLICY.delay_seconds(0, fruitless=1, chance=0) > 0


def test_a_long_wish_is_honoured_whatever_the_limit() -> None:
    """A server that drains may send its clients away for a minute."""
    assert POLICY.delay_seconds(60, fruitless=3, chance=0) == 60


@pytest.mark.parametrize(("unreached", "remaining"), [(0, 60), (59, 1), (60, 0), (100, 0)])
def test_patience_ends(unreached: float, remaining: float) -> None:
    """What remains of it is never negative."""
    assert POLICY.remaining_seconds(unreached) == remaining
