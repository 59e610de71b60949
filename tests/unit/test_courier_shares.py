"""How a courier's room is shared."""

from __future__ import annotations

from dataclasses import replace

from ingest_worker.shares import SLOW_TIMES, Bounds, Shares
from shared.endpoints import Endpoint
from tests.unit.test_verdicts import ENDPOINT

BOUNDS = Bounds.of(8, 1)


def endpoints(count: int) -> list[Endpoint]:
    """Each of a tenant of its own."""
    return [replace(ENDPOINT, id=f"ep_{number}", tenant=f"t{number}") for number in range(count)]


def test_what_is_slow_takes_none_of_the_room():
    """It has a larger room of its own, and takes of the other only when that is full."""
    assert Shares(BOUNDS, endpoints(8)).room == 0
    assert Shares(BOUNDS, endpoints(8), slow=5).room == 5
    most = 8 * SLOW_TIMES
    assert Shares(BOUNDS, endpoints(most - 3), slow=most - 3).room == 3
    assert Shares(BOUNDS, endpoints(most), slow=most).room == 0


def test_what_is_slow_counts_to_the_share_of_its_tenant():
    """So nobody has more by calling what stalls."""
    shares = Shares(Bounds(total=8, tenant=2, host=2, endpoint=2), endpoints(1) * 2, slow=2)
    assert shares.full_tenants() == ["t0"]
    assert shares.free(endpoints(1)[0]) == 0
