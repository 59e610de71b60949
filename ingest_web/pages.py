"""The page at ``/``."""

from __future__ import annotations

from flask import Blueprint, render_template

from ingest_web import services

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> str:
    """Drop files, watch them."""
    return render_template("index.html", max_upload_bytes=services.current().settings.max_upload_bytes)
