"""Whether this process lives, and whether it should be sent anyone."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, jsonify

from ingest_web import services
from shared.errors import StoreUnavailable

blueprint = Blueprint("health", __name__)

DRAINING = "INGEST_DRAINING"


@blueprint.get("/livez")
def livez() -> Response:
    """200 as long as the event loop turns."""
    return jsonify(status="alive")


@blueprint.get("/readyz")
def readyz() -> Response:
    """200 when requests will be served; 503 without Redis, and from the first moment of a shutdown.

    A full Redis still answers whoever looks, at any node; uploads are told by themselves to come again.
    """
    if current_app.config.get(DRAINING):
        raise StoreUnavailable("This process is shutting down.")
    services.current().store.ping()
    return jsonify(status="ready", streams=services.current().hub.viewer_count)
