"""Errors as ``application/problem+json`` (RFC 9457): the one place where `shared.errors` meets HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from shared.errors import Exhausted, IngestError, StoreUnavailable, Unauthorized

log = structlog.stdlib.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """What all errors of a class are called."""

    status: int
    code: str
    title: str


def kind(error: IngestError | HTTPException | type[IngestError | HTTPException]) -> Kind:
    """What a class of errors, or one of them, is called in an answer."""
    if isinstance(error, IngestError) or (isinstance(error, type) and issubclass(error, IngestError)):
        return Kind(error.status, error.code, error.title)
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    name = HTTP_STATUS_CODES.get(status, IngestError.title)
    return Kind(status, name.lower().replace(" ", "_"), name)


def problem(status: int, code: str, title: str, detail: str | None = None, **extra: object) -> Response:
    """A problem document. ``code`` is stable and for programs; ``title`` and ``detail`` are for people."""
    members = {"type": f"urn:ingest-live:problem:{code}", "title": title, "status": status, "code": code}
    if detail:
        members["detail"] = detail
    members.update({name: value for name, value in extra.items() if value is not None})
    body = json.dumps(members, ensure_ascii=False)
    return Response(body, status=status, content_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


def install(app: Flask) -> None:
    """Have every error of an app answered in this form."""
    app.register_error_handler(Exception, answer)


def answer(error: Exception) -> Response:
    """What a client is told of an error."""
    if isinstance(error, IngestError):
        return _answer_ours(error)
    return _answer_http(error) if isinstance(error, HTTPException) else _answer_unexpected(error)


def _answer_ours(error: IngestError) -> Response:
    response = _of_kind(kind(error), error.detail, **error.extra)
    if isinstance(error, StoreUnavailable):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
        log.warning("request.unavailable", detail=error.detail, cause=str(error.__cause__))
    if isinstance(error, Exhausted):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
        if error.policy:  # draft-ietf-httpapi-ratelimit-headers
            name = error.policy.partition(";")[0]
            response.headers["RateLimit-Policy"] = error.policy
            response.headers["RateLimit"] = f"{name};r=0;t={error.retry_after_seconds}"
    if isinstance(error, Unauthorized):
        response.headers["WWW-Authenticate"] = 'Bearer realm="ingest-live"'  # RFC 6750, section 3
    return response


def _answer_http(error: HTTPException) -> Response:
    response = _of_kind(kind(error), error.description)
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _answer_unexpected(error: Exception) -> Response:
    log.error("request.failed", exc_info=error)
    return _of_kind(kind(IngestError))


def _of_kind(kind: Kind, detail: str | None = None, **extra: object) -> Response:
    return problem(kind.status, kind.code, kind.title, detail, **extra)
