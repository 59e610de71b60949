"""How the ``ingest`` command ends: its exit statuses, and expected failures told in one line each."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import ParamSpec

import typer

from ingest_client import words
from ingest_client.errors import ClientError, RequestRefused, ServerUnreachable

OK = 0
#: A document failed or was cancelled, or the server refused the request.
FAILED = 1
#: The server can't be reached, or says that it can't serve for the moment.
UNREACHABLE = 2
#: EX_USAGE of sysexits.h.
USAGE = 64
#: 128 and the number of the signal, as a shell has it.
INTERRUPTED = 130
BROKEN_PIPE = 141

P = ParamSpec("P")


def tell(reason: object) -> None:
    """One line on standard error, whatever the reason holds."""
    sys.stderr.write(f"ingest: {words.plain(str(reason))}\n")
    sys.stderr.flush()


def status_of(error: ClientError | OSError) -> int:
    """The exit status that an error asks for."""
    if isinstance(error, ServerUnreachable) or (isinstance(error, RequestRefused) and error.is_temporary):
        return UNREACHABLE
    return FAILED


def reason_of(error: ClientError | OSError) -> str:
    """Why a request or a file was no good, with the code that programs know it by."""
    if isinstance(error, RequestRefused):
        hint = " (the key is taken from INGEST_API_KEY)" if error.status == HTTPStatus.UNAUTHORIZED else ""
        return f"{error.code}: {error.detail}{hint}"
    return getattr(error, "strerror", None) or str(error)


def reported(command: Callable[P, int]) -> Callable[P, None]:
    """Let a command return its exit status, and end without a traceback for everything that is expected to fail."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            status = command(*args, **kwargs)
            sys.stdout.flush()
        except KeyboardInterrupt:
            status = INTERRUPTED
        except BrokenPipeError:
            _silence_stdout()
            status = BROKEN_PIPE
        except ClientError as error:
            tell(reason_of(error))
            status = status_of(error)
        raise typer.Exit(status)

    return run


def _silence_stdout() -> None:
    # Python flushes standard output once more at its end, and would complain again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
