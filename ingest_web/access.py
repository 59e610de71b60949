"""Who makes a request, and whether they may: looked at before any route, from one table.

Closed unless opened: a route that the table does not name is answered to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, cast
from urllib.parse import parse_qs

from flask import Flask, Response, g, request

from ingest_web import ids, services
from ingest_web.guard import Guard, demand
from ingest_web.permits import Permit
from shared.access import Caller, Scope
from shared.errors import Forbidden, InvalidOption, Unauthorized

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
    "links.create": Scope.READ,  # whoever may see a stream may show it to others
}

#: The figures of the whole installation.
OPERATORS = frozenset({"metrics.queues", "metrics.metrics"})

#: Those that look for themselves, with `permit`: outside of Flask there are streams too.
STREAMS = frozenset({"streams.stream_one", "streams.stream_many"})

#: What holds no document of anybody.
PUBLIC = frozenset({"pages.index", "static", "health.livez", "health.readyz", "openapi.document"})

#: One stream is opened by at most so many tokens: so many fit in the request line that `gunicorn_conf` allows.
MOST_TOKENS = 150


def install(app: Flask) -> None:
    """Look at every request before its route does, and let go of it when its answer is out."""
    app.before_request(_look)
    app.after_request(_let_go_at_the_end)


def caller() -> Caller:
    """Whoever makes the present request."""
    return cast("Caller", g.caller)


def owned(document_id: str) -> str:
    """The id, when it is one of a document that the caller may know of. Raises `UnknownIngestion`."""
    services.current().guard.check_owned([ids.checked(document_id)], caller())
    return document_id


def permit(guard: Guard, environ: Mapping[str, Any], wanted: Sequence[str]) -> Permit:
    """What the request for a stream is allowed to see: the documents ``wanted``, all of them, by its key or its tokens.

    ``?token=`` decides alone where there is one, and adds the documents that the tokens are for. Raises
    `Unauthorized`, `Forbidden`, `InvalidOption` for none or too many, `UnknownIngestion`, `StoreUnavailable`.
    """
    tokens = parse_qs(environ.get("QUERY_STRING", "")).get("token")
    if tokens:
        return _permit_by_tokens(guard, tokens, wanted)
    viewer = guard.caller(environ.get("HTTP_AUTHORIZATION"))
    demand(viewer, Scope.READ)
    document_ids = ids.checked_all(wanted)
    guard.check_owned(document_ids, viewer)
    return Permit(viewer.tenant, document_ids, _key_ids([viewer]))


def _permit_by_tokens(guard: Guard, texts: Sequence[str], wanted: Sequence[str]) -> Permit:
    if len(texts) > MOST_TOKENS:
        raise InvalidOption(f"token: give at most {MOST_TOKENS} of them", option="token")
    # No look at Redis: a token is written for a document of the tenant of its key, and none ever changes its tenant.
    held = [guard.holder(text) for text in dict.fromkeys(texts)]
    opened = {token.document_id: token for token, _ in held}
    document_ids = ids.checked_all([*wanted, *opened])
    if not guard.is_open and not opened.keys() >= set(document_ids):
        raise Unauthorized("The token is not for this document.")
    callers = [caller for _, caller in held]
    expires_at = min(token.expires_at for token, _ in held)
    return Permit(callers[0].tenant, document_ids, _key_ids(callers), expires_at, by_link=True)


def _key_ids(callers: Iterable[Caller]) -> frozenset[str]:
    return frozenset(caller.key_id for caller in callers if caller.key_id)


def _look() -> None:
    endpoint = request.endpoint
    if endpoint is None or endpoint in PUBLIC or endpoint in STREAMS:  # None: there is no such route
        return
    current = services.current()
    g.caller = current.guard.caller(request.headers.get("Authorization"))
    current.limits.count_request(g.caller.tenant)
    current.in_hand.take(g.caller.tenant)
    g.in_hand = partial(current.in_hand.give_back, g.caller.tenant)
    if endpoint in OPERATORS:
        if not g.caller.is_operator:
            raise Forbidden("Only the operators' key is good for this.")
    elif endpoint in SCOPES:
        demand(g.caller, SCOPES[endpoint])
    else:
        raise Forbidden("Nobody may do this.")


def _let_go_at_the_end(response: Response) -> Response:
    if "in_hand" in g:
        response.call_on_close(g.pop("in_hand"))
    return response
