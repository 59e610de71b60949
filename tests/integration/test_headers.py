"""The headers of every answer: what keeps a page safe, and what another origin may read."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from ingest_web import services
from tests.records import finish, new_document

APP = "https://app.example.com"
OTHER = "https://other.example.com"

#: Method, path and status, of each kind of answer.
ANSWERS = [
    ("GET", "/", 200),
    ("GET", "/ingestions", 200),
    ("GET", "/status/{}", 200),
    ("HEAD", "/status/{}", 200),
    ("GET", "/ingestions/{}/chunks", 409),
    ("GET", "/static/ingest-progress.js", 200),
    ("GET", "/static/nothing.js", 404),
    ("GET", "/nowhere", 404),
    ("DELETE", "/livez", 405),
    ("OPTIONS", "/livez", 200),
    ("POST", "/ingestions", 400),
    ("GET", "/readyz", 200),
    ("GET", "/metrics", 200),
    ("HEAD", "/status/stream/{}", 200),
    ("GET", "/status/stream/nonsense", 404),
]


@pytest.fixture
def document(store) -> str:
    return new_document(store)


@pytest.fixture
def http(make_app) -> FlaskClient:
    """A client of an app that one other origin may read."""
    return make_app(allowed_origins=APP).test_client()


def cors(answer) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("Access-Control-")}


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_is_for_the_allowed_origin_and_no_other(http, document, method, path, status):
    """Routes, files and errors alike; and whoever asks, each answer has the headers that keep a page safe."""
    for origin, told in ((APP, APP), (OTHER, None), ("null", None), (None, None)):
        headers = {"Origin": origin} if origin else {}
        with http.open(path.format(document), method=method, headers=headers) as answer:
            assert answer.status_code == status
            assert cors(answer).get("Access-Control-Allow-Origin") == told
            assert bool(cors(answer)) == bool(told)
            assert answer.headers.getlist("Vary") == ["Origin"]
            assert answer.headers.getlist("X-Content-Type-Options") == ["nosniff"]
            assert answer.headers.getlist("Referrer-Policy") == ["no-referrer"]
            assert answer.headers.getlist("Cross-Origin-Resource-Policy") == ["same-origin"]


def test_an_error_of_the_inside_can_be_read_too(make_app, monkeypatch, document):
    """A script of the other origin sees the code of a 500, not a blank failure."""
    app = make_app(allowed_origins=APP)
    monkeypatch.setattr(services.of(app), "store", None)
    answer = app.test_client().get(f"/status/{document}", headers={"Origin": APP})
    assert (answer.status_code, cors(answer)["Access-Control-Allow-Origin"]) == (500, APP)


def test_a_stream_of_every_kind_can_be_read(make_app, store, document, tmp_path):
    """One that goes on, one that asks to come back, and 204."""
    http = make_app(allowed_origins=APP).test_client()
    without_redis = make_app(allowed_origins=APP, redis_url=f"unix://{tmp_path}/gone.sock").test_client()
    path = f"/status/stream/{document}"
    with http.get(path, headers={"Origin": APP}) as going_on:
        assert (going_on.status_code, cors(going_on)["Access-Control-Allow-Origin"]) == (200, APP)
    put_off = without_redis.get(path, headers={"Origin": APP})
    assert b"retry: " in put_off.data
    assert (put_off.status_code, cors(put_off)["Access-Control-Allow-Origin"]) == (200, APP)
    finish(store, document)
    ended = http.get(path, headers={"Origin": APP, "Last-Event-ID": "2"})
    assert (ended.status_code, cors(ended)["Access-Control-Allow-Origin"]) == (204, APP)


def test_a_preflight_is_answered_for_the_allowed_origin(http):
    """Methods, headers and for how long; another origin gets what anybody gets."""
    asked = {"Access-Control-Request-Method": "DELETE", "Access-Control-Request-Headers": "idempotency-key"}
    answer = http.options("/ingestions/x", headers={**asked, "Origin": APP})
    assert (answer.status_code, answer.data) == (204, b"")
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
    assert "Idempotency-Key" in answer.headers["Access-Control-Allow-Headers"]
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert cors(http.options("/ingestions/x", headers={**asked, "Origin": OTHER})) == {}


def test_without_the_setting_no_origin_is_told_anything(make_app):
    """The default: no CORS, and nothing that varies."""
    answer = make_app().test_client().get("/ingestions", headers={"Origin": APP})
    assert cors(answer) == {}
    assert "Vary" not in answer.headers


def test_the_page_allows_what_it_needs_and_nothing_else(http):
    """The whole policy, so that a change of it is seen."""
    assert http.get("/").headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_who_asks_for_a_websocket_is_answered_as_if_he_did_not(http, document, method, path, status):
    """There is none, and HTTP says to leave such a wish aside."""
    wish = {"Connection": "keep-alive, Upgrade", "Upgrade": "WebSocket"}
    with http.open(path.format(document), method=method, headers=wish) as answer:
        assert answer.status_code == status
