"""One attempt at a delivery: signed, sent, and the answer looked at, within a time and a few kilobytes.

The receiver is a stranger. It may redirect, stall, drip, flood or lie; none of that costs more than its share of time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx
import structlog

from ingest_worker.egress import CONNECT_SECONDS, AddressRefused, Unresolved
from ingest_worker.lanes import Claim
from shared import signing
from shared.deliveries import Attempt, Fault
from shared.errors import SettingsError
from shared.sealing import Seal

log = structlog.get_logger(__name__)

#: So much of an answer is read and kept.
ANSWER_BYTES = 4096

#: What is in an answer decides nothing, so that is all the time it gets once its status is known.
ANSWER_SECONDS = 2.0

USER_AGENT = "ingest-live/0.1 (webhooks)"

SIGNATURE = "webhook-signature"


@dataclass(frozen=True, slots=True)
class Sent:
    """An attempt, and what the answer said of when to come again."""

    attempt: Attempt
    retry_after: str | None = None


class LeaseOver(Exception):
    """There is not enough left of the lease for an attempt: this process stood still since it claimed the delivery."""


class Sender:
    """Makes attempts, any number at the same time, on one event loop."""

    def __init__(
        self, egress: httpx.AsyncBaseTransport, seal: Seal, seconds: float, clock: Callable[[], float] = time.time
    ) -> None:
        """``seconds``: so long it may take from the lookup of the name to the head of the answer."""
        self._client = httpx.AsyncClient(
            transport=egress,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds)),
        )
        self._seal = seal
        self._seconds = seconds
        self._clock = clock

    async def send(self, claim: Claim) -> Sent:
        """Make an attempt. Whatever goes wrong is in what it gives. Raises `LeaseOver` when none was made."""
        at, began = self._clock(), time.monotonic()
        if at + self._seconds > claim.until:
            raise LeaseOver

        def sent(headers: dict[str, str], error: Fault | None, answer: _Answer | None = None) -> Sent:
            duration_ms = round((time.monotonic() - began) * 1000)
            shown = {name: value for name, value in headers.items() if name != SIGNATURE}
            status, text, retry_after = (answer.status, answer.text, answer.retry_after) if answer else (None,) * 3
            return Sent(Attempt(at, duration_ms, shown, status, text, error), retry_after)

        try:
            keys = signing.opened(claim.endpoint.secrets, self._seal, at)
        except SettingsError as failure:
            log.warning("webhook.secret_unreadable", endpoint=claim.endpoint.id, reason=failure.detail)
            return sent({}, Fault.SEALED_OTHERWISE)
        headers = _headers(claim, at, keys)
        try:
            answer = await self._post(claim, headers)
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, AddressRefused, Unresolved) as failure:
            return sent(headers, _fault_of(failure))
        return sent(headers, _error_of(answer.status), answer)

    async def _post(self, claim: Claim, headers: dict[str, str]) -> _Answer:
        request = self._client.build_request("POST", claim.endpoint.url, content=claim.body.encode(), headers=headers)
        async with asyncio.timeout(self._seconds):
            response = await self._client.send(request, stream=True)
        try:
            return _Answer(response.status_code, await _beginning(response), response.headers.get("retry-after"))
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Let go of all connections."""
        await self._client.aclose()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    text: str
    retry_after: str | None


async def _beginning(response: httpx.Response) -> str:
    read = bytearray()
    # The status says it all: an answer whose rest never comes is as good.
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout(ANSWER_SECONDS):
            async for piece in response.aiter_raw():  # as it comes: 64 KiB at most
                read += piece
                if len(read) >= ANSWER_BYTES:
                    break
    return bytes(read[:ANSWER_BYTES]).decode("utf-8", "replace").replace("\0", "\ufffd")


def _headers(claim: Claim, at: float, keys: Sequence[str]) -> dict[str, str]:
    return {
        "content-type": "application/json",
        "user-agent": USER_AGENT,
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
        **signing.headers(claim.message_id, at, claim.body, keys),
    }


def _error_of(status: int) -> Fault | None:
    if httpx.codes.is_success(status):
        return None
    return Fault.REDIRECTED if httpx.codes.is_redirect(status) else Fault.REFUSED


def _fault_of(failure: Exception) -> Fault:
    match failure:
        case AddressRefused():
            return Fault.ADDRESS_REFUSED
        case Unresolved():
            return Fault.UNRESOLVED
        case TimeoutError() | httpx.TimeoutException():
            return Fault.TIMED_OUT
        case httpx.ConnectError():
            return Fault.UNREACHABLE
        case _:
            return Fault.BROKEN_ANSWER
