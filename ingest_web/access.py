"""Who makes a request, and whether they may: looked at before any route, from one table.

Closed unless opened: a route that the table does not name is answered to nobody.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from flask import Flask, g, request

from ingest_web import ids, services
from ingest_web.guard import Guard, demand
from shared.access import Caller, Scope
from shared.errors import Forbidden

#: What each route asks of a caller.
SCOPES: Mapping[str, Scope] = {
    "uploads.create": Scope.UPLOAD,
    "ingestions.delete": Scope.UPLOAD,
    "ingestions.retry": Scope.UPLOAD,
    "ingestions.index": Scope.READ,
    "ingestions.status": Scope.READ,
    "ingestions.chunks": Scope.READ,
    "webhooks.create": Scope.ADMIN,
    "webhooks.index": Scope.ADMIN,
    "webhooks.get": Scope.ADMIN,
    "webhooks.change": Scope.ADMIN,
    "webhooks.delete": Scope.ADMIN,
    "webhooks.rotate": Scope.ADMIN,
    "webhooks.test": Scope.ADMIN,
    "webhooks.deliveries": Scope.ADMIN,
    "webhooks.redeliver": Scope.ADMIN,
    "webhooks.recover": Scope.ADMIN,
}

#: The figures of the whole installation.
OPERATORS = frozenset({"metrics.queues", "metrics.metrics"})

#: Those that look for themselves, with `watched`: outside of Flask there are streams too.
STREAMS = frozenset({"streams.stream_one", "streams.stream_many"})

#: What holds no document of anybody.
PUBLIC = frozenset({"pages.index", "static", "health.livez", "health.readyz", "openapi.document"})


def install(app: Flask) -> None:
    """Look at every request before its route does."""
    app.before_request(_look)


def caller() -> Caller:
    """Whoever makes the present request."""
    return cast("Caller", g.caller)


def owned(document_id: str) -> str:
    """The id, when it is one of a document that the caller may know of. Raises `UnknownIngestion`."""
    services.current().guard.check_owned([ids.checked(document_id)], caller())
    return document_id


def watched(guard: Guard, environ: Mapping[str, Any], wanted: Sequence[str]) -> tuple[str, ...]:
    """The documents whose stream is asked for, without repetition, when whoever asks may watch all of them.

    Raises `Unauthorized`, `Forbidden`, `InvalidOption` for none or too many, `UnknownIngestion`.
    """
    viewer = guard.caller(environ.get("HTTP_AUTHORIZATION"))
    demand(viewer, Scope.READ)
    document_ids = ids.checked_all(wanted)
    guard.check_owned(document_ids, viewer)
    return document_ids


def _look() -> None:
    endpoint = request.endpoint
    if endpoint is None or endpoint in PUBLIC or endpoint in STREAMS:  # None: there is no such route
        return
    g.caller = services.current().guard.caller(request.headers.get("Authorization"))
    if endpoint in OPERATORS:
        if not g.caller.is_operator:
            raise Forbidden("Only the operators' key is good for this.")
    elif endpoint in SCOPES:
        demand(g.caller, SCOPES[endpoint])
    else:
        raise Forbidden("Nobody may do this.")
