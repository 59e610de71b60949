"""What can go wrong for a client, and what an error answer says.

    ClientError
    ├── ServerUnreachable   nobody answers, or the answer broke off
    ├── RequestRefused      the server answered with an error: ``status``, ``code``, ``detail``
    └── UnexpectedAnswer    something answers, but not as ingest-live does

Errors of httpx are translated where they enter, with ``raise ... from``. This module knows no command and no terminal.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

#: What stands between a client and a server that restarts: a balancer's answers, or the server's own "not now".
TEMPORARY = frozenset({502, 503, 504})


class ClientError(Exception):
    """The root."""


class ServerUnreachable(ClientError):
    """Nobody answers, or the connection broke before the answer was complete."""


class UnexpectedAnswer(ClientError):
    """Something answers at this address, but not as ingest-live does."""


class RequestRefused(ClientError):
    """An error answer. ``status`` is the HTTP status; ``code`` is stable, for programs; ``detail`` is for people."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail

    @property
    def is_temporary(self) -> bool:
        """Whether the same request may succeed in a while: the server restarts, or has lost its own helpers."""
        return self.status in TEMPORARY

    @classmethod
    def from_answer(cls, response: httpx.Response) -> RequestRefused:
        """The error that an answer, read to its end, stands for: a problem document, or anything else."""
        problem = _object_in(response)
        code = problem.get("code") or f"http_{response.status_code}"
        detail = problem.get("detail") or problem.get("title") or _described(response)
        return cls(response.status_code, str(code), str(detail))


@contextmanager
def translated() -> Iterator[None]:
    """Raise `ServerUnreachable` for what httpx raises when a connection fails or breaks."""
    try:
        yield
    except httpx.RequestError as error:
        raise unreachable(error) from error


def unreachable(error: httpx.RequestError) -> ServerUnreachable:
    """The error for a failed connection, with the reason in a few words."""
    where = f"{error.request.url.copy_with(path='/', query=None)}".rstrip("/")
    return ServerUnreachable(f"{where} can't be reached: {_reason(error)}")


def _reason(error: httpx.RequestError) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "no answer to the attempt to connect"
        case httpx.TimeoutException():
            return "connected, but there was no answer in time"
        case _:
            return str(error) or type(error).__name__


def _object_in(response: httpx.Response) -> Mapping[str, Any]:
    try:
        content = json.loads(response.content)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _described(response: httpx.Response) -> str:
    words = f"the server answered {response.status_code} {response.reason_phrase}".rstrip()
    target = response.headers.get("location")
    return f"{words} and points to {target}" if response.is_redirect and target else words
