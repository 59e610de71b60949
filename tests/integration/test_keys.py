"""API keys: kept as digests, good for what they were made for, and of no use once revoked."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from sqlalchemy import text

from ingest_web import access, services
from ingest_web.guard import FRESH_SECONDS, Guard
from shared.access import ALL_SCOPES, Scope
from shared.database import make_engine
from shared.errors import Unauthorized
from shared.keyring import parts_of
from tests.callers import bearing
from tests.records import SOURCE, complete

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"


@pytest.fixture
def closed(make_app, ring):
    """A client of an app that asks for keys."""
    return make_app(auth="keys").test_client()


def upload(http, key: str) -> str:
    answer = send(http, key)
    assert answer.status_code == 202, answer.text
    return answer.json["id"]


def send(http, key: str, data: bytes = PDF, **headers: str):
    form = {"file": (io.BytesIO(data), "a.pdf")}
    return http.post("/ingestions", data=form, headers={**bearing(key), **headers})


def test_of_a_key_only_its_digest_is_kept(ring, settings):
    """Whoever reads the database can't call as anybody."""
    key, told = ring.create("acme", {Scope.READ}, "for the dashboard")
    secret = parts_of(told)[1]
    engine = make_engine(settings.database_url)
    with engine.connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_keys")).all())
    engine.dispose()
    assert key.id in stored
    assert "for the dashboard" in stored
    assert secret not in stored


def test_a_key_that_was_revoked_is_listed_but_opens_nothing(ring):
    """What was open to it is shut, and who looks sees since when."""
    key, told = ring.create("acme", ALL_SCOPES)
    assert ring.find(key.id).opens_for(parts_of(told)[1])
    revoked = ring.revoke(key.id)
    assert not revoked.opens_for(parts_of(told)[1])
    assert [found.revoked_at for found in ring.all("acme")] == [revoked.revoked_at]
    assert ring.revoke(key.id) == revoked
    assert ring.revoke("nobody's") is None


@pytest.mark.parametrize("tenant", ["", "Acme", "a b", "a:b", "{a}", "a" * 64])
def test_a_tenant_that_could_be_mistaken_for_something_else_is_refused(ring, tenant):
    """Its name is part of keys in Redis."""
    with pytest.raises(ValueError, match="tenant"):
        ring.create(tenant, ALL_SCOPES)


def test_each_route_says_what_it_asks_of_a_caller(app):
    """None was forgotten, and none is named that there isn't."""
    named = [*access.SCOPES, *access.OPERATORS, *access.STREAMS, *access.PUBLIC]
    assert sorted(named) == sorted({rule.endpoint for rule in app.url_map.iter_rules()})


def test_without_a_key_there_is_nothing(closed, app):
    """Not even whether a document exists. What tells nothing of documents is open."""
    document = "01m857xcw5wq82xwhr9ttcn3ay"
    for rule in app.url_map.iter_rules():
        method = sorted(rule.methods - {"HEAD", "OPTIONS"})[0]
        path = rule.rule.replace("<document_id>", document).replace("<path:filename>", "page.css")
        answer = closed.open(path, method=method)
        answer.close()
        if rule.endpoint in access.PUBLIC:
            assert answer.status_code in {200, 503}, path
            continue
        assert answer.status_code == 401, path
        assert answer.json["code"] == "unauthorized"
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    ["Bearer", "Bearer ", "Bearer x", "Basic aW5nZXN0OmE=", "Bearer ingest_", "Bearer ingest_a", "Bearer ingest_a_b"],
)
def test_what_is_no_key_opens_nothing(closed, header):
    """Half a key, another scheme, or the key of nobody."""
    assert closed.get("/ingestions", headers={"Authorization": header}).status_code == 401


def test_the_right_id_with_the_wrong_secret_opens_nothing(closed, ring):
    """An id is no secret: it is listed and logged."""
    key, told = ring.create("acme", ALL_SCOPES)
    assert closed.get("/ingestions", headers=bearing(told)).status_code == 200
    assert closed.get("/ingestions", headers=bearing(f"ingest_{key.id}_{'x' * 43}")).status_code == 401


def test_a_key_is_good_for_its_scopes_alone(closed, ring):
    """Whoever may read can't upload, and the other way round."""
    _, reading = ring.create("acme", {Scope.READ})
    _, uploading = ring.create("acme", {Scope.UPLOAD})
    refused = closed.post("/ingestions", data={"file": (io.BytesIO(PDF), "a.pdf")}, headers=bearing(reading))
    assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    document = upload(closed, uploading)
    for path in ("/ingestions", f"/status/{document}", f"/status/stream/{document}", f"/ingestions/{document}/chunks"):
        assert closed.get(path, headers=bearing(uploading)).status_code == 403, path
    assert closed.get(f"/status/{document}", headers=bearing(reading)).status_code == 200


def test_the_document_of_another_tenant_does_not_exist(closed, ring):
    """The answer is the one for an id that was never given, on every route, and no list names it."""
    _, ours = ring.create("acme", ALL_SCOPES)
    _, theirs = ring.create("zenith", ALL_SCOPES)
    document = upload(closed, ours)
    never = "01m857xcw5wq82xwhr9ttcn3ay"
    for method, path in [
        ("GET", "/status/{}"),
        ("GET", "/status/stream/{}"),
        ("GET", "/status/stream?id={}"),
        ("GET", "/ingestions/{}/chunks"),
        ("POST", "/ingestions/{}/retry"),
        ("DELETE", "/ingestions/{}"),
    ]:
        answer = closed.open(path.format(document), method=method, headers=bearing(theirs))
        unknown = closed.open(path.format(never), method=method, headers=bearing(theirs))
        assert answer.status_code == 404, path
        assert answer.text.replace(document, never) == unknown.text, path
    assert closed.get("/ingestions", headers=bearing(theirs)).json["ingestions"] == []
    assert [state["id"] for state in closed.get("/ingestions", headers=bearing(ours)).json["ingestions"]] == [document]


def test_one_document_of_another_tenant_among_ones_own_spoils_a_stream(closed, ring):
    """It is not left out in silence: the client asked for something that isn't there."""
    _, ours = ring.create("acme", ALL_SCOPES)
    _, theirs = ring.create("zenith", ALL_SCOPES)
    path = f"/status/stream?id={upload(closed, ours)}&id={upload(closed, theirs)}"
    assert closed.get(path, headers=bearing(ours)).status_code == 404


def test_the_same_bytes_of_another_tenant_are_not_an_earlier_result(ring, store):
    """That somebody else has a file is nobody's business."""
    assert SOURCE.fingerprint != replace(SOURCE, tenant="zenith").fingerprint


def test_an_earlier_document_is_shown_to_nobody_by_a_link_who_may_not_read_it(closed, ring, store):
    """Under what name another key brought it is not for a key that may only upload: it has the id, and no link. Of what
    it brought itself it has one.
    """
    _, full = ring.create("acme", ALL_SCOPES)
    _, only = ring.create("acme", {Scope.UPLOAD})
    earlier = upload(closed, full)
    complete(store, earlier)
    for key, has_link in ((only, False), (full, True)):
        answer = send(closed, key)
        assert (answer.status_code, answer.json["id"], "stream_url" in answer.json) == (200, earlier, has_link)
    for _ in ("made", "replayed"):
        answer = send(closed, only, PDF + b"2", **{"Idempotency-Key": "k"})
        assert (answer.status_code, "stream_url" in answer.json) == (202, True)


def test_the_figures_of_the_installation_are_for_its_operators(closed, ring):
    """They count the documents of all tenants."""
    _, operator = ring.create("default", {Scope.ADMIN})
    _, tenant = ring.create("acme", ALL_SCOPES)
    _, reader = ring.create("default", {Scope.READ})
    for path in ("/metrics", "/queues"):
        assert closed.get(path, headers=bearing(operator)).status_code == 200
        assert closed.get(path, headers=bearing(tenant)).status_code == 403
        assert closed.get(path, headers=bearing(reader)).status_code == 403


def test_a_revoked_key_is_refused_within_a_second_wherever_it_was_known(settings, ring, store):
    """A process remembers keys, but not for long."""
    seconds = [0.0]
    guard = Guard(settings.model_copy(update={"auth": "keys"}), store, clock=lambda: seconds[0])
    key, told = ring.create("acme", ALL_SCOPES)
    assert guard.caller(f"Bearer {told}").tenant == "acme"
    ring.revoke(key.id)
    seconds[0] += FRESH_SECONDS
    with pytest.raises(Unauthorized):
        guard.caller(f"Bearer {told}")
    guard.close()


def test_where_no_key_is_asked_for_everybody_is_the_default_tenant(http, app):
    """One laptop needs no keys."""
    answer = http.post("/ingestions", data={"file": (io.BytesIO(PDF), "a.pdf")})
    with app.app_context():
        assert services.current().store.source(answer.json["id"]).tenant == "default"
