"""How a courier's room is shared: so much of it for an endpoint, a host of a tenant, and a tenant, however much is due.

Pure. An upload may name any URL, and each is an endpoint of its own: without bounds above endpoints, a tenant with a
slow receiver would take all the room there is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from shared.endpoints import Endpoint

#: A tenant has one part in so many of the room.
TENANT_PART = 4

#: One host has one part in so many of it, for each tenant: nobody is in the way of another who calls the same.
HOST_PART = 8


@dataclass(frozen=True, slots=True)
class Bounds:
    """Deliveries in hand at once: in all, and of these the most for a tenant, a host of it, and an endpoint."""

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

    def __init__(self, bounds: Bounds, in_hand: Iterable[Endpoint] = ()) -> None:
        """``in_hand`` holds the endpoint of each delivery that is."""
        self._bounds = bounds
        self._tenants: Counter[str] = Counter()
        self._hosts: Counter[tuple[str, str]] = Counter()
        self._endpoints: Counter[str] = Counter()
        for endpoint in in_hand:
            self.take(endpoint, 1)

    @property
    def room(self) -> int:
        """How many more there may be in all."""
        return max(0, self._bounds.total - self._endpoints.total())

    @property
    def endpoints(self) -> int:
        """How many endpoints something is in hand for."""
        return len(self._endpoints)

    def take(self, endpoint: Endpoint, count: int) -> None:
        """So many more are in hand."""
        self._tenants[endpoint.tenant] += count
        self._hosts[endpoint.tenant, base_of(endpoint.url)] += count
        self._endpoints[endpoint.id] += count

    def free(self, endpoint: Endpoint) -> int:
        """How many more of an endpoint there may be."""
        # One that fails is asked whether it still does, by one delivery at a time.
        most = 1 if endpoint.failing_since else self._bounds.endpoint
        of_host = self._bounds.host - self._hosts[endpoint.tenant, base_of(endpoint.url)]
        of_tenant = self._bounds.tenant - self._tenants[endpoint.tenant]
        return max(0, min(most - self._endpoints[endpoint.id], of_host, of_tenant, self.room))

    def full_tenants(self) -> list[str]:
        """Tenants that have all they may."""
        return [tenant for tenant, count in self._tenants.items() if count >= self._bounds.tenant]

    def full_hosts(self) -> list[tuple[str, str]]:
        """Tenants with the beginnings of the URLs of hosts for which they have all they may."""
        return [host for host, count in self._hosts.items() if count >= self._bounds.host]


def base_of(url: str) -> str:
    """What the URLs of a host begin with."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/"
