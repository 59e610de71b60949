"""Watching documents over as many connections as it takes: connect, resume, wait, give up.

The rules are elsewhere (`reconnect`: when to try again; `sequence`: what is news); here are the sockets and the clock.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from http import HTTPStatus
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, SSEError

from ingest_client.errors import RequestRefused, ServerUnreachable, UnexpectedAnswer, unreachable
from ingest_client.reconnect import ReconnectPolicy
from ingest_client.sequence import Sequence
from shared.protocol import State


class Stream:
    """An iterator of states for some documents. It ends after the final state of each, or when the server says so."""

    def __init__(self, http: httpx.Client, sequence: Sequence, policy: ReconnectPolicy, timeout: httpx.Timeout) -> None:
        """``timeout.read`` is the longest silence: a server that lives sends a heartbeat before."""
        self._http = http
        self._sequence = sequence
        self._policy = policy
        self._timeout = timeout
        self._fruitless = 0
        self._reached_at = time.monotonic()

    def __iter__(self) -> Iterator[State]:
        while not self._sequence.finished:
            self._fruitless += 1
            try:
                for state in self._connection():
                    self._fruitless = 0
                    yield state
                trouble = None
            except httpx.RequestError as error:
                trouble = unreachable(error)
                trouble.__cause__ = error
            except RequestRefused as error:
                if not error.is_temporary:
                    raise
                trouble = ServerUnreachable(f"{self._http.base_url} can't be reached: {error.detail}")
                trouble.__cause__ = error
            if not self._sequence.finished:
                self._wait(trouble)

    def _connection(self) -> Iterator[State]:
        with self._http.stream("GET", self._url(), headers=self._headers(), timeout=self._timeout) as response:
            if response.status_code not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
                response.read()
                raise RequestRefused.from_answer(response)
            self._reached_at = time.monotonic()
            if response.status_code == HTTPStatus.NO_CONTENT:
                self._sequence.finish()
                return
            try:
                yield from self._news_in(response)
            finally:
                self._reached_at = time.monotonic()

    def _news_in(self, response: httpx.Response) -> Iterator[State]:
        try:
            for event in EventSource(response).iter_sse():
                state = self._sequence.take(event)
                if state is not None:
                    yield state
                if self._sequence.finished:
                    return
        except (SSEError, ValueError) as error:
            raise UnexpectedAnswer(f"not a stream of ingest-live: {error}") from error

    def _url(self) -> str:
        first, *others = ids = [quote(document_id, safe="") for document_id in self._sequence.ids]
        return "/status/stream?" + "&".join(f"id={one}" for one in ids) if others else f"/status/stream/{first}"

    def _headers(self) -> dict[str, str]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        if self._sequence.last_event_id:
            headers["Last-Event-ID"] = self._sequence.last_event_id
        return headers

    def _wait(self, trouble: ServerUnreachable | None) -> None:
        remaining = self._policy.remaining_seconds(time.monotonic() - self._reached_at)
        if trouble and not remaining:
            raise trouble
        chance = random.random()  # noqa: S311 - it spreads clients, it keeps no secret
        delay = self._policy.delay_seconds(self._sequence.retry_seconds, self._fruitless, chance)
        # A last attempt is made when the patience ends, not one wait later.
        time.sleep(min(delay, remaining) if trouble else delay)
