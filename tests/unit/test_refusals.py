"""What gunicorn can't read is the fault of who sent it; what nobody caught is ours, and shows nothing of the inside."""

from __future__ import annotations

import inspect
import json
import ssl

import pytest
from gunicorn.http import errors

from ingest_web import refusals

#: What an app has written that is no header.
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName)

OF_THE_SENDER = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, errors.ParseException) and not issubclass(kind, OURS)
]


def made(kind: type[Exception]) -> Exception:
    """One of them, about something that must not be told."""
    return kind.__new__(kind, "secret")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("error", [*map(made, OF_THE_SENDER), ssl.SSLError("secret")], ids=repr)
def test_what_can_not_be_read_is_the_senders_fault(error):
    """All kinds that gunicorn knows, also those that it would answer with a 5xx."""
    answer = refusals.answer(error)
    assert 400 <= status_of(answer) < 500
    assert b"secret" not in answer


@pytest.mark.parametrize("error", [*map(made, OURS), RuntimeError("secret"), SystemExit("secret")], ids=repr)
def test_what_nobody_caught_is_ours(error):
    """A 500 with the code that all of them have."""
    answer = refusals.answer(error)
    assert status_of(answer) == 500
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "internal"
    assert b"secret" not in answer
