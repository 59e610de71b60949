"""Looking a webhook's host up when its URL is named, so that one that can't be called is refused at once.

That is a courtesy: what counts is the look at each delivery (the courier's), since a name may lead elsewhere by then.
So a name that can't be resolved now is let through, and so is one whose servers take their time.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from functools import cache

import gevent
from gevent import monkey
from gevent.threadpool import ThreadPool

from shared import addresses
from shared.addresses import Address
from shared.config import Settings
from shared.errors import RefusedUrl

#: Nobody waits longer for a stranger's name server.
LOOKUP_SECONDS = 2.0

#: Names that are looked up at the same time, on threads of their own: a name server that stalls holds up no one else.
LOOKUPS = 4


def check(text: str, settings: Settings, field: str) -> str:
    """The URL in its normal form. Raises `RefusedUrl`, which names the field it came in."""
    try:
        url = addresses.checked_url(text)
    except ValueError as error:
        raise RefusedUrl(f"{field}: {error}.", option=field) from error
    allowed = addresses.networks(settings.webhook_allowed_networks)
    found = _addresses_of(url.raw_host.decode("ascii"))
    reason = addresses.first_refusal(found, allowed, in_clear=url.scheme != "https")
    if reason is not None:
        raise RefusedUrl(f"{field}: {reason}.", option=field)
    return str(url)


def _addresses_of(host: str) -> list[Address]:
    """What the system's resolver says in time; nothing when it says nothing."""
    # Around both: to spawn is to wait for a thread, which names that stall may have all of.
    with suppress(TimeoutError), gevent.Timeout(LOOKUP_SECONDS, TimeoutError()):
        found = _pool().spawn(_resolved, host.strip("[]")).get()
        return [addresses.parsed(text) for text in found or ()]
    return []


def _resolved(host: str) -> list[str]:
    resolve = monkey.get_original("socket", "getaddrinfo")
    with suppress(OSError, UnicodeError):
        return list(dict.fromkeys(str(answer[4][0]) for answer in resolve(host, None, type=socket.SOCK_STREAM)))
    return []


@cache
def _pool() -> ThreadPool:
    return ThreadPool(LOOKUPS)
