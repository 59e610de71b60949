"""flask-sse as its documentation shows it: a Flask app that registers the blueprint. Run by gunicorn with gevent."""

from __future__ import annotations

import os

from flask import Flask
from flask_sse import sse

app = Flask("flask_sse_peer")
app.config["REDIS_URL"] = os.environ["BENCH_REDIS_URL"]
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/readyz")
def ready() -> str:
    """The process answers."""
    return "ready"
