"""The way out to addresses that strangers name: resolved, checked, and connected to by the address that was checked.

A transport for httpx. The address is looked up and judged for every single request, so a name that leads somewhere else
the second time is judged anew; and since the connection is made to the checked address, there is no second lookup in
between. Host and the name for TLS stay those of the URL. Connections are not kept: two names may share an address, and
a connection that was made for the one must not carry what is meant for the other.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import httpx

from shared import addresses
from shared.addresses import Address, Network

#: Gives the addresses of a name; raises `OSError`.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

#: So long an address has to answer before the next one of the same name is tried.
CONNECT_SECONDS = 5.0

#: So long a name has to be resolved. The system's resolver gives up by then: a thread is not held for much longer.
LOOKUP_SECONDS = 10.0

#: Names that are looked up at the same time, unless it is said otherwise.
LOOKUPS = 16


class AddressRefused(Exception):
    """None of the addresses may be called; the message says why."""


class Unresolved(Exception):
    """The name has no address."""


class Egress(httpx.AsyncBaseTransport):
    """Sends requests to addresses that `shared.addresses` lets through, and to no other."""

    def __init__(self, allowed: Sequence[Network], resolve: Resolve | None = None, lookups: int = LOOKUPS) -> None:
        """``lookups``: so many names are looked up at the same time, unless ``resolve`` does it."""
        self._allowed = allowed
        self._threads = ThreadPoolExecutor(lookups, thread_name_prefix="lookups")
        self._resolve = resolve or self._look_up
        self._transport = httpx.AsyncHTTPTransport(
            verify=httpx.create_ssl_context(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it. Raises `AddressRefused`, `Unresolved` and what httpx raises."""
        permitted = await self._permitted(request.url)
        for address in permitted[:-1]:
            try:
                return await self._transport.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue
        return await self._transport.handle_async_request(_pinned(request, permitted[-1]))

    async def _permitted(self, url: httpx.URL) -> list[Address]:
        in_clear = url.scheme != "https"
        host = url.raw_host.decode("ascii")
        try:
            found = [
                addresses.parsed(text) for text in await self._resolve(host, url.port or (80 if in_clear else 443))
            ]
        except (OSError, ValueError) as error:
            raise Unresolved(f"{host} can't be resolved") from error
        permitted = [one for one in found if addresses.refusal(one, self._allowed, in_clear=in_clear) is None]
        if not found:
            raise Unresolved(f"{host} has no address")
        if not permitted:
            raise AddressRefused(str(addresses.first_refusal(found, self._allowed, in_clear=in_clear)))
        return permitted

    async def _look_up(self, host: str, port: int) -> Sequence[str]:
        # A name server that stalls holds a thread: asyncio's own are few, and others wait for them.
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(LOOKUP_SECONDS):
            return await loop.run_in_executor(self._threads, _resolved, host, port)

    async def aclose(self) -> None:
        """Let go of everything."""
        await self._transport.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def __aenter__(self) -> Self:
        return self


def _resolved(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order in which the system would try them. Raises `OSError`."""
    found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def _pinned(request: httpx.Request, address: Address) -> httpx.Request:
    """The same request to an address; its Host header was made of the URL before."""
    extensions = {**request.extensions, "sni_hostname": request.url.raw_host.decode("ascii")}
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )
