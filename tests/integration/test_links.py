"""Links: a token opens the stream of one document and nothing else, and not for ever."""

from __future__ import annotations

import io
import time
from itertools import islice

import pytest

from ingest_web import access, services
from ingest_web.permits import Permits
from ingest_web.tokens import Token
from shared.access import ALL_SCOPES, Scope
from tests.awaiting import wait_until
from tests.callers import bearing

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"
NEVER = "01m857xcw5wq82xwhr9ttcn3ay"


@pytest.fixture
def closed_app(make_app, ring):
    """An app that asks for keys."""
    return make_app(auth="keys")


@pytest.fixture
def http(closed_app):
    return closed_app.test_client()


@pytest.fixture
def key(ring):
    """The id of a key, and its text."""
    made, told = ring.create("acme", ALL_SCOPES)
    return made.id, told


@pytest.fixture
def write(closed_app):
    """Writes tokens as the app does."""

    def write(document_id: str, key_id: str, seconds: float = 60) -> str:
        return services.of(closed_app).guard.tokens.write(Token(document_id, key_id, int(time.time() + seconds)))

    return write


def upload(http, told: str, content: bytes = PDF) -> dict:
    answer = http.post("/ingestions", data={"file": (io.BytesIO(content), "a.pdf")}, headers=bearing(told))
    assert answer.status_code == 202, answer.text
    return answer.json


def first_frames(http, path: str) -> str:
    """The answer's status and the beginning of the stream; then the client leaves."""
    answer = http.get(path, buffered=False)
    assert answer.status_code == 200, answer.text
    begun = b"".join(islice(answer.response, 2))
    answer.close()
    return begun.decode()


def test_an_upload_is_answered_with_an_address_that_opens_its_stream(http, key):
    """Without any header, as an EventSource asks. The plain link stays beside it."""
    document = upload(http, key[1])
    assert document["stream_url"].startswith(f"{document['links']['stream']}?token={document['id']}.{key[0]}.")
    assert f'"id":"{document["id"]}"' in first_frames(http, document["stream_url"])


def test_where_no_keys_are_asked_for_the_address_is_the_plain_one(make_app):
    """Also that of a link, which does not expire."""
    http = make_app().test_client()
    document = http.post("/ingestions", data={"file": (io.BytesIO(PDF), "a.pdf")}).json
    plain = f"/status/stream/{document['id']}"
    assert document["stream_url"] == plain
    link = http.post(f"/ingestions/{document['id']}/links")
    assert (link.status_code, link.json) == (201, {"stream_url": plain, "expires_at": None})
    assert http.post(f"/ingestions/{NEVER}/links").json["code"] == "unknown_ingestion"


def test_a_link_is_good_for_as_long_as_was_asked(http, key):
    """It says until when, in UTC."""
    document = upload(http, key[1])["id"]
    before = int(time.time())
    link = http.post(f"/ingestions/{document}/links", data={"expires_in": "90"}, headers=bearing(key[1])).json
    token = services.of(http.application).guard.tokens.read(link["stream_url"].partition("token=")[2], before)
    assert before + 90 <= token.expires_at <= time.time() + 90
    assert link["expires_at"].endswith(".000Z")
    assert '"id"' in first_frames(http, link["stream_url"])


@pytest.mark.parametrize("seconds", ["0", "-1", "86401", "x", "", "1e3", "\u0661"])
def test_a_link_can_be_had_for_a_bounded_time_only(http, key, seconds):
    """`INGEST_LINK_SECONDS` is the bound, and what is no number is no time."""
    document = upload(http, key[1])["id"]
    refused = http.post(f"/ingestions/{document}/links", data={"expires_in": seconds}, headers=bearing(key[1]))
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_option")


def test_links_are_made_by_those_who_may_read(http, ring, key):
    """A link shows no more than its maker sees: another tenant's document is not there."""
    document = upload(http, key[1])["id"]
    _, reading = ring.create("acme", {Scope.READ})
    _, uploading = ring.create("acme", {Scope.UPLOAD})
    _, other = ring.create("zenith", ALL_SCOPES)
    for told, status in ((reading, 201), (uploading, 403), (other, 404)):
        assert http.post(f"/ingestions/{document}/links", headers=bearing(told)).status_code == status
    assert http.post(f"/ingestions/{document}/links").status_code == 401


def test_a_token_opens_nothing_but_its_stream(http, key, write):
    """No other route takes it, neither in the address nor as a key; nor does the stream of another document."""
    ours, another = upload(http, key[1])["id"], upload(http, key[1], PDF + b"2")["id"]
    token = write(ours, key[0])
    rules = [rule for rule in http.application.url_map.iter_rules() if rule.endpoint not in access.PUBLIC]
    for rule in rules:
        if rule.endpoint in access.STREAMS:
            continue
        path = rule.rule.replace("<document_id>", ours)
        method = sorted(rule.methods - {"HEAD", "OPTIONS"})[0]
        for headers in ({}, bearing(token)):
            assert http.open(f"{path}?token={token}", method=method, headers=headers).status_code == 401, path
    for path in (f"/status/stream/{another}?token={token}", f"/status/stream?id={another}&id={ours}&token={token}"):
        refused = http.get(path)
        assert (refused.status_code, refused.json["code"]) == (401, "unauthorized")
        assert token not in refused.text


def test_several_tokens_open_one_stream(http, key, write):
    """In their order; ids beside them name nothing further."""
    first, second = (upload(http, key[1], PDF + bytes([n]))["id"] for n in (1, 2))
    tokens = f"token={write(first, key[0])}&token={write(second, key[0])}"
    begun = first_frames(http, f"/status/stream?{tokens}")
    assert begun.index(first) < begun.index(second)
    assert "id: 1.1\n" in begun
    begun = first_frames(http, f"/status/stream?id={second}&{tokens}")
    assert begun.index(second) < begun.index(first)
    assert http.get(f"/status/stream?id={NEVER}&{tokens}").status_code == 401


def test_as_many_tokens_as_a_stream_takes_fit_in_the_line_of_a_request(http, key, write):
    """One more is refused in words, not by a bound of the server's."""
    tokens = [write(f"{NEVER[:-3]}{n:03}", key[0]) for n in range(access.MOST_TOKENS + 1)]
    line = f"GET /status/stream?{'&'.join(f'token={token}' for token in tokens[:-1])} HTTP/1.1\r\n"
    assert len(line) < 16_000
    refused = http.get(f"/status/stream?{'&'.join(f'token={token}' for token in tokens)}")
    assert (refused.status_code, refused.json["code"]) == (422, "invalid_option")


def refusal(http, path: str, **headers: str) -> tuple[int, str, str]:
    answer = http.get(path, headers=headers)
    return answer.status_code, answer.json["code"], answer.headers["Content-Type"]


def test_what_is_no_good_token_is_refused_at_every_connection(http, ring, key, write):
    """Forged, expired, of nobody's or a revoked key: also for whoever comes back having seen the end of it."""
    document = upload(http, key[1])["id"]
    good = write(document, key[0])
    other, _ = ring.create("acme", ALL_SCOPES)
    ring.revoke(other.id)
    bad = [good[:-1], "x", write(document, key[0], -1), write(document, "0" * 16), write(document, other.id)]
    for token in bad:
        for path in (f"/status/stream/{document}?token={token}", f"/status/stream?token={good}&token={token}"):
            for seen in ("", "1", "1.1", "9"):
                expected = (401, "unauthorized", "application/problem+json")
                assert refusal(http, path, **{"Last-Event-ID": seen}) == expected, path
    assert http.get(f"/status/stream/{document}?token=").status_code == 401
    assert http.head(f"/status/stream/{document}?token=x").status_code == 401


def test_a_token_of_a_document_that_was_deleted_finds_nothing(http, key):
    """As if it had never been."""
    document = upload(http, key[1])
    for _ in ("cancelled", "removed"):
        http.delete(f"/ingestions/{document['id']}", headers=bearing(key[1]))
    for seen in ("", "1", "2"):
        assert refusal(http, document["stream_url"], **{"Last-Event-ID": seen})[:2] == (404, "unknown_ingestion")
        assert http.head(document["stream_url"], headers={"Last-Event-ID": seen}).status_code == 404


def test_a_stream_is_closed_when_its_key_is_revoked_and_not_let_in_again(http, ring, key):
    """Whether it was opened with a token of the key or with the key itself; those of others stay."""
    document = upload(http, key[1])
    _, told = ring.create("acme", ALL_SCOPES)
    asked = [(document["stream_url"], {}), (document["links"]["stream"], bearing(key[1]))]
    opened = [http.get(path, headers=headers).response for path, headers in asked]
    stays = http.get(document["links"]["stream"], headers=bearing(told))
    for stream in opened:
        wait_until(lambda stream=stream: b'"seq":1' in next(stream))
    assert services.of(http.application).permits.kept == 3
    ring.revoke(key[0])
    for stream in opened:
        assert b'"seq"' not in b"".join(stream)  # to its end
    assert http.get(document["stream_url"]).status_code == 401
    assert services.of(http.application).permits.kept == 1
    stays.close()
    assert services.of(http.application).permits.kept == 0


def test_a_stream_is_closed_when_its_token_expires(http, key, write):
    """Within a second or so, and the next one is not opened."""
    document = upload(http, key[1])["id"]
    path = f"/status/stream/{document}?token={write(document, key[0], 1.5)}"
    assert b'"seq":1' in b"".join(http.get(path).response)
    assert http.get(path).json["detail"] == "The token has expired."


def test_without_its_database_a_node_keeps_its_streams_for_a_while_and_no_longer(http, closed_app, ring):
    """They are asked to come back, and so is whoever comes meanwhile: an EventSource gives up for good on a 503."""
    current = services.of(closed_app)
    current.permits = Permits(current.guard, 0, unsure_seconds=2.0)
    _, told = ring.create("acme", ALL_SCOPES)
    document = upload(http, told)
    answer = http.get(document["stream_url"])
    began = time.monotonic()
    with ring._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE api_keys RENAME TO gone")
    came = b"".join(answer.response)
    assert time.monotonic() - began > 1.5
    assert came.rstrip().split(b"\n")[-1].startswith(b"retry: ")
    wait_until(lambda: http.get(document["stream_url"]).data.count(b"retry:") == 1)
