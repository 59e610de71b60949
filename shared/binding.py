"""Whether a web node can be reached from other machines: that is refused while no keys are asked for."""

from __future__ import annotations

import ipaddress
import os
import socket
import threading
from collections.abc import Iterable
from typing import Any

from shared.config import Settings
from shared.errors import SettingsError

#: As gunicorn or a socket has it: host, port and perhaps more, the path or the name of a Unix socket, or the number of
#: a descriptor that listens already.
Address = tuple[Any, ...] | str | bytes | int

_DECIDE = (
    "set INGEST_AUTH=keys (and make keys with `ingest keys create`), or INGEST_AUTH=off if something in front decides "
    "who may"
)

_looking = threading.Event()


def refuse_if_open(settings: Settings, addresses: Iterable[Address]) -> None:
    """Return when these may be listened on. Raises `SettingsError`, which says why not."""
    if settings.auth:
        return
    for address in addresses:
        host = host_of(address)
        if host is not None and not is_loopback(host):
            raise SettingsError(
                f"{host} can be reached from other machines, and INGEST_AUTH is not set: everybody there could upload "
                f"and read. So {_DECIDE}; or listen on 127.0.0.1"
            )


def promise_to_look() -> None:
    """Say that this process, and those that it forks, serve nobody before `refuse_if_open` has seen their addresses."""
    _looking.set()


def refuse_if_nobody_looks(settings: Settings) -> None:
    """Return when an app may be made here. Raises `SettingsError`, which says why not.

    An app never learns where its server listens, so that has to be seen to by who starts the server.
    """
    if not settings.auth and not _looking.is_set():
        raise SettingsError(
            "INGEST_AUTH is not set, and nobody sees to it that only this machine reaches the server. Start it with "
            f"`gunicorn -c python:ingest_web.gunicorn_conf`, which does; or {_DECIDE}"
        )


def host_of(address: Address) -> str | None:
    """The host in an address; None for a Unix socket, which no other machine reaches."""
    if isinstance(address, int):
        with socket.socket(fileno=os.dup(address)) as listener:
            bound = listener.getsockname()
            return str(bound[0]) if listener.family in {socket.AF_INET, socket.AF_INET6} else None
    return str(address[0]) if isinstance(address, tuple) else None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the host. A name is looked up; one that is not known is not taken for safe."""
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host or "0.0.0.0", None)}  # noqa: S104 - not listened on
    except OSError:
        return False
    return all(ipaddress.ip_address(name.partition("%")[0]).is_loopback for name in found)
