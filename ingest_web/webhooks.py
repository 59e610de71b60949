"""The routes of webhooks: a tenant's endpoints, and what was delivered to them.

Sending is the courier's business; what is asked for here is written down, and couriers are woken.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from flask import Blueprint, Response, jsonify, request, url_for
from pydantic import BaseModel, ValidationError
from ulid import ULID
from werkzeug.exceptions import UnsupportedMediaType

from ingest_web import lookup, services
from ingest_web.access import caller
from ingest_web.bodies import (
    DeliveryShown,
    EndpointChange,
    EndpointShown,
    NewEndpoint,
    Recovery,
    Rotation,
)
from ingest_web.numerals import whole_number
from shared import signing
from shared.deliveries import Deliveries, Delivery, DeliveryState
from shared.endpoints import BY_OWNER, Endpoint, Endpoints
from shared.errors import (
    EndpointDisabled,
    InvalidOption,
    SettingsError,
    StoreUnavailable,
    UnknownDelivery,
    UnknownEndpoint,
    UnknownIngestion,
)
from shared.protocol import timestamp
from shared.webhooks import of_entries, of_state, of_test

log = structlog.stdlib.get_logger(__name__)

blueprint = Blueprint("webhooks", __name__)

NO_STORE = {"Cache-Control": "no-store"}

MOST_BODY_BYTES = 64 * 1024

PAGE_SIZE = 50
MOST_PAGE_SIZE = 250

#: So long a test waits for what comes of it.
TEST_SECONDS = 5.0
#: It looks again after this, and then less and less often.
LOOK_SECONDS = 0.05
LONGEST_LOOK_SECONDS = 0.5
PAUSE_GROWTH = 1.5

ENDPOINT_ID = re.compile(r"ep_[0-9a-z]{26}", re.ASCII)
DELIVERY_ID = re.compile(r"dl_[0-9a-z]{26}", re.ASCII)

Model = TypeVar("Model", bound=BaseModel)


@blueprint.post("/webhooks")
def create() -> Response:
    """Make an endpoint. The answer holds its secret, which is shown this once."""
    wanted = _body(NewEndpoint)
    url = lookup.check(wanted.url, services.current().settings, "url")
    secret, sealed = _new_secret()
    made = _endpoints().create(caller().tenant, url, wanted.events, wanted.description, sealed)
    log.info("webhook.created", endpoint=made.id)
    location = url_for("webhooks.get", endpoint_id=made.id)
    return _json({**_shown(made), "secret": secret}, 201, {"Location": location})


@blueprint.get("/webhooks")
def index() -> Response:
    """The endpoints of the tenant: ``limit`` of them, below the id ``before``; ``next`` leads on."""
    limit, before = _page(ENDPOINT_ID)
    found = _endpoints().of_tenant(caller().tenant, limit, before)
    return _json({"webhooks": [_shown(one) for one in found], "next": _next(found, limit)})


@blueprint.get("/webhooks/<endpoint_id>")
def get(endpoint_id: str) -> Response:
    """One endpoint."""
    return _json(_shown(_ours(endpoint_id)))


@blueprint.patch("/webhooks/<endpoint_id>")
def change(endpoint_id: str) -> Response:
    """Change what is given. An endpoint that is enabled again hears of what happens from then on; see ``recover``."""
    endpoint, wanted = _ours(endpoint_id), _body(EndpointChange)
    values = wanted.model_dump(exclude_unset=True, exclude={"enabled"})
    if "url" in values:
        values["url"] = lookup.check(values["url"], services.current().settings, "url")
    changed = _endpoints().change(endpoint.tenant, endpoint.id, **values) if values else endpoint
    if wanted.enabled and not endpoint.is_enabled:
        _deliveries().enable(endpoint.id)
        changed = _ours(endpoint_id)
    elif wanted.enabled is False and endpoint.disabled_reason != BY_OWNER:  # one that had failed too: by choice now
        _deliveries().disable(endpoint.id, BY_OWNER)
        changed = _ours(endpoint_id)
    return _json(_shown(changed))


@blueprint.delete("/webhooks/<endpoint_id>")
def delete(endpoint_id: str) -> Response:
    """Remove an endpoint, with what was and was to be delivered to it."""
    endpoint = _ours(endpoint_id)
    _endpoints().remove(endpoint.tenant, endpoint.id)
    log.info("webhook.removed", endpoint=endpoint.id)
    return Response(status=204)


@blueprint.post("/webhooks/<endpoint_id>/rotate")
def rotate(endpoint_id: str) -> Response:
    """Make a new secret, shown this once. For ``overlap_seconds`` messages are signed with the old one, too."""
    endpoint, wanted = _ours(endpoint_id), _body(Rotation)
    secret, sealed = _new_secret()
    changed = _endpoints().rotate(endpoint.tenant, endpoint.id, sealed, wanted.overlap_seconds)
    log.info("webhook.rotated", endpoint=endpoint.id)
    return _json({**_shown(changed), "secret": secret})


@blueprint.post("/webhooks/<endpoint_id>/test")
def test(endpoint_id: str) -> Response:
    """Send an ``endpoint.test`` at once, and answer with what came of it; ``pending`` when that takes longer."""
    tests, tenant = services.current().tests, caller().tenant
    endpoint = _enabled(endpoint_id)
    tests.take(tenant)
    try:
        return _json(_shown_delivery(_tested(endpoint)))
    finally:
        tests.give_back(tenant)


def _tested(endpoint: Endpoint) -> Delivery:
    message = of_test(f"msg_test_{str(ULID()).lower()}", endpoint.id, endpoint.tenant, timestamp(datetime.now(UTC)))
    _deliveries().enter([message])
    _wake()
    deadline = time.monotonic() + TEST_SECONDS
    for pause in pauses():
        try:
            delivery = _deliveries().of_message(endpoint.id, message.message_id)
        except UnknownDelivery as error:  # it went with its endpoint
            raise UnknownEndpoint("The webhook endpoint was removed meanwhile.") from error
        if delivery.state is not DeliveryState.PENDING or time.monotonic() > deadline:
            break
        time.sleep(pause)
    return delivery


def pauses() -> Iterator[float]:
    """So many seconds to wait between looks at the same thing, one after the other, without end."""
    pause = LOOK_SECONDS
    while True:
        yield pause
        pause = min(pause * PAUSE_GROWTH, LONGEST_LOOK_SECONDS)


@blueprint.get("/webhooks/<endpoint_id>/deliveries")
def deliveries(endpoint_id: str) -> Response:
    """What was sent and what came back, newest first: ``limit`` of them, older than ``before``; ``next`` leads on."""
    endpoint = _ours(endpoint_id)
    limit, before = _page(DELIVERY_ID)
    found = _deliveries().of_endpoint(endpoint.id, limit, before)
    return _json({"deliveries": [_shown_delivery(one) for one in found], "next": _next(found, limit)})


@blueprint.post("/webhooks/<endpoint_id>/deliveries/<delivery_id>/redeliver")
def redeliver(endpoint_id: str, delivery_id: str) -> Response:
    """Send one again, whatever came of it."""
    endpoint = _enabled(endpoint_id)
    if not DELIVERY_ID.fullmatch(delivery_id):
        raise UnknownDelivery("There is no delivery with such an id.")
    _deliveries().redeliver(endpoint.id, delivery_id)
    _wake()
    return _json(_shown_delivery(_deliveries().get(endpoint.id, delivery_id)), 202)


@blueprint.post("/webhooks/<endpoint_id>/recover")
def recover(endpoint_id: str) -> Response:
    """Send all again that have failed since a time, 10,000 at most: call again until it says 0."""
    endpoint, wanted = _enabled(endpoint_id), _body(Recovery)
    count = _deliveries().recover(endpoint.id, wanted.since.timestamp())
    _wake()
    return _json({"recovered": count}, 202)


def of_upload(url: str) -> Endpoint:
    """The endpoint that an upload names. Raises `RefusedUrl`, `TooManyEndpoints`."""
    checked = lookup.check(url, services.current().settings, "webhook_url")
    return _endpoints().of_upload(caller().tenant, checked, lambda: _new_secret()[1])


def keep(endpoint_id: str) -> None:
    """Note that a document that names this endpoint is worked on again, so that it is not forgotten."""
    _endpoints().keep(caller().tenant, endpoint_id)


def secret_for(endpoint: Endpoint, upload: str) -> str | None:
    """The secret of an endpoint for the first upload that asks, once it has succeeded; for others None.

    ``upload`` tells uploads apart: one that is sent again is told it again.
    """
    try:
        sealed = _endpoints().tell_secret(endpoint, upload)
        return None if sealed is None else services.current().seal.open(sealed)
    except (StoreUnavailable, SettingsError) as error:  # the document is made, and the answer must say so
        log.warning("webhook.secret_not_shown", endpoint=endpoint.id, reason=str(error))
        return None


def tell_again(document_id: str, endpoint: Endpoint) -> None:
    """Have an endpoint hear of a document that was completed before an upload named it. One that is gone is no news.

    What no courier has taken over yet is entered first, as one would: so all hear of the document in order, and with
    its counts. The courier enters it again, which changes nothing.
    """
    try:
        state = services.current().store.state(document_id)
    except UnknownIngestion:
        return
    (entries,) = services.current().outbox.entries([state.id])
    untold, _ = of_entries(entries)
    _deliveries().enter(list(untold.values()))
    _deliveries().tell(untold.get(state.seq) or of_state(state, endpoint.tenant), endpoint.id)
    _wake()


def _endpoints() -> Endpoints:
    return Endpoints(services.current().webhooks)


def _deliveries() -> Deliveries:
    return Deliveries(services.current().webhooks)


def _ours(endpoint_id: str) -> Endpoint:
    if not ENDPOINT_ID.fullmatch(endpoint_id):
        raise UnknownEndpoint("There is no webhook endpoint with such an id.")
    return _endpoints().get(caller().tenant, endpoint_id)


def _enabled(endpoint_id: str) -> Endpoint:
    endpoint = _ours(endpoint_id)
    if not endpoint.is_enabled:
        raise EndpointDisabled("Nothing is sent to it: enable it first.", reason=endpoint.disabled_reason)
    return endpoint


def _new_secret() -> tuple[str, str]:
    secret = signing.new_secret()
    return secret, services.current().seal.close(secret)


def _wake() -> None:
    try:
        services.current().outbox.wake()
    except StoreUnavailable as error:  # couriers look each second anyway
        log.warning("courier.not_woken", reason=error.detail)


def _body(model: type[Model]) -> Model:
    """The JSON body. Its type must say so: a page of another origin can't send that unasked."""
    request.max_content_length = MOST_BODY_BYTES
    if not request.is_json:
        raise UnsupportedMediaType("Send JSON, as application/json.")
    try:
        return model.model_validate_json(request.get_data())
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise InvalidOption(f"{name}: {message}" if name else message, option=name or None) from error


def _page(form: re.Pattern[str]) -> tuple[int, str | None]:
    given, before = request.args.get("limit", str(PAGE_SIZE)), request.args.get("before")
    limit = whole_number(given, MOST_PAGE_SIZE)
    if limit is None:
        raise InvalidOption(f"limit: give a number from 1 to {MOST_PAGE_SIZE}", option="limit")
    if before is not None and not form.fullmatch(before):
        raise InvalidOption("before: this is no id of that kind", option="before")
    return limit, before


def _next(found: Sequence[Endpoint] | Sequence[Delivery], limit: int) -> str | None:
    return f"{request.path}?limit={limit}&before={found[-1].id}" if len(found) == limit else None


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    response = jsonify(body)
    response.status_code = status
    response.headers.update({**NO_STORE, **(headers or {})})
    return response


def _shown(endpoint: Endpoint) -> EndpointShown:
    return {
        "id": endpoint.id,
        "kind": endpoint.kind,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "description": endpoint.description,
        "enabled": endpoint.is_enabled,
        "disabled_reason": endpoint.disabled_reason,
        "failing_since": _time(endpoint.failing_since),
        "created_at": timestamp(datetime.fromtimestamp(endpoint.created_at, UTC)),
        "updated_at": timestamp(datetime.fromtimestamp(endpoint.updated_at, UTC)),
    }


def _shown_delivery(delivery: Delivery) -> DeliveryShown:
    return {
        "id": delivery.id,
        "message_id": delivery.message_id,
        "type": delivery.type,
        "state": delivery.state,
        "error": delivery.error,
        "body": delivery.body,
        "created_at": timestamp(datetime.fromtimestamp(delivery.created_at, UTC)),
        "finished_at": _time(delivery.finished_at),
        "next_attempt_at": _time(delivery.due_at),
        "attempts": [
            {
                "number": attempt.number,
                "at": timestamp(datetime.fromtimestamp(attempt.at, UTC)),
                "duration_ms": attempt.duration_ms,
                "request_headers": dict(attempt.headers),
                "status": attempt.status,
                "answer": attempt.answer,
                "error": attempt.error,
            }
            for attempt in delivery.attempts
        ],
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else timestamp(datetime.fromtimestamp(seconds, UTC))
