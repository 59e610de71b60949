"""Who asks, and what they may do. Pure.

Every document belongs to a tenant. To a caller of another tenant it is as if it did not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: The tenant of everybody while no keys are asked for, and of whoever runs the installation.
DEFAULT_TENANT = "default"


class Scope(StrEnum):
    """What a key is good for."""

    #: To bring documents in, to cancel, retry and remove them.
    UPLOAD = "upload"
    #: To see states, streams and results, and to make links of streams.
    READ = "read"
    #: To manage webhooks; with the default tenant, to see the figures of the whole installation.
    ADMIN = "admin"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever makes a request. ``key_id`` is empty for those who need no key."""

    tenant: str
    scopes: frozenset[Scope]
    key_id: str = ""

    @property
    def is_operator(self) -> bool:
        """Whether it may see what concerns all tenants together."""
        return self.tenant == DEFAULT_TENANT and Scope.ADMIN in self.scopes


#: Everybody, where no keys are asked for.
ANYBODY = Caller(DEFAULT_TENANT, ALL_SCOPES)
