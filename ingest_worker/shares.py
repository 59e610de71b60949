"""How a courier's room is shared: so much of it for an endpoint, and for all of a tenant, however much is due.

Pure. An upload may name any URL, and each is an endpoint of its own: without bounds above endpoints, a tenant with a
slow receiver would take all the room there is. Those of uploads that lead to one host have a bound together. Of the
others there are few: each has one delivery in hand if it wants, so that none ever waits for another.

However many tenants have receivers that stall, the others are answered at once, and need room for a moment only. So
what has been in hand for longer takes none of it, but has room of its own, which is larger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from shared.endpoints import Endpoint
from shared.webhooks import Kind

#: What has been in hand for longer is slow.
SLOW_SECONDS = 0.5

#: So many times the room is there for all together, the slow ones included.
SLOW_TIMES = 4

#: A tenant has one part in so many of the room.
TENANT_PART = 4

#: The endpoints of a tenant's uploads that lead to one host have one part in so many of it together.
HOST_PART = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """Deliveries in hand at once: in all, and of these the most for a tenant, a host of its uploads, an endpoint.

    ``total`` is without those that are slow; with them it is `SLOW_TIMES` as many.
    """

    total: int
    tenant: int
    host: int
    endpoint: int

    @classmethod
    def of(cls, total: int, endpoint: int) -> Self:
        """The bounds that follow from two of them: an endpoint has what is set for it, also where that is much."""
        return cls(total, max(endpoint, total // TENANT_PART), max(endpoint, total // HOST_PART), endpoint)


class Shares:
    """What is in hand, and for whom there is still room."""

    def __init__(self, bounds: Bounds, in_hand: Iterable[Endpoint] = (), slow: int = 0) -> None:
        """``in_hand`` holds the endpoint of each delivery that is; so many of them are ``slow``."""
        self._bounds = bounds
        self._slow = slow
        self._tenants: Counter[str] = Counter()
        self._hosts: Counter[tuple[str, str]] = Counter()
        self._endpoints: Counter[str] = Counter()
        for endpoint in in_hand:
            self.take(endpoint, 1)

    @property
    def room(self) -> int:
        """How many more there may be in all."""
        in_hand, total = self._endpoints.total(), self._bounds.total
        return max(0, min(total - (in_hand - self._slow), total * SLOW_TIMES - in_hand))

    @property
    def endpoints(self) -> int:
        """How many endpoints something is in hand for."""
        return len(self._endpoints)

    def take(self, endpoint: Endpoint, count: int) -> None:
        """So many more are in hand."""
        self._tenants[endpoint.tenant] += count
        if endpoint.kind is Kind.UPLOAD:
            self._hosts[endpoint.tenant, origin_of(endpoint.url)] += count
        self._endpoints[endpoint.id] += count

    def free(self, endpoint: Endpoint) -> int:
        """How many more of an endpoint there may be."""
        # One that fails is asked whether it still does, by one delivery at a time.
        most = 1 if endpoint.failing_since else self._bounds.endpoint
        of_tenant = self._bounds.tenant - self._tenants[endpoint.tenant]
        if endpoint.kind is Kind.UPLOAD:
            of_tenant = min(of_tenant, self._bounds.host - self._hosts[endpoint.tenant, origin_of(endpoint.url)])
        elif not self._endpoints[endpoint.id]:
            of_tenant = max(1, of_tenant)
        return max(0, min(most - self._endpoints[endpoint.id], of_tenant, self.room))

    def busy(self) -> list[str]:
        """Endpoints that something is in hand for."""
        return [endpoint_id for endpoint_id, count in self._endpoints.items() if count]

    def full_tenants(self) -> list[str]:
        """Tenants that have all they may."""
        return [tenant for tenant, count in self._tenants.items() if count >= self._bounds.tenant]

    def full_hosts(self) -> list[tuple[str, str]]:
        """Tenants with the origins for which their uploads have all they may."""
        return [host for host, count in self._hosts.items() if count >= self._bounds.host]


def origin_of(url: str) -> str:
    """What the URLs of a host begin with (RFC 6454): scheme, host and port."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
