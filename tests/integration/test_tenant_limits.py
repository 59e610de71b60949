"""What one tenant may ask of the service: counted over all nodes, told when to come back, and nobody else's loss.

Two apps over one Valkey are two nodes.
"""

from __future__ import annotations

import io

import httpx
import pytest

from ingest_web import services
from ingest_web.admission import NoSeat
from ingest_web.guard import MOST_LOOKUPS
from ingest_web.limits import STEP_BYTES, InHand, Limits
from ingest_web.shares import LEASE_SECONDS, Shares
from ingest_worker.sweeper import Sweeper
from shared import keys
from shared.access import ALL_SCOPES
from shared.broker import make_celery
from shared.errors import RateLimited, StoreUnavailable, TooManyDocuments
from shared.jobs import Status
from shared.keyring import KeyRing
from shared.seats import GRACE_SECONDS, Seats
from shared.store import Store
from tests.awaiting import wait_until
from tests.callers import bearing
from tests.records import SOURCE

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"
MEBIBYTE = 1024 * 1024

FORM = "multipart/form-data; boundary=x"


@pytest.fixture
def acme(ring) -> dict[str, str]:
    """The headers of a caller of the tenant acme."""
    return bearing(ring.create("acme", ALL_SCOPES)[1])


@pytest.fixture
def zenith(ring) -> dict[str, str]:
    """The headers of a caller of another tenant."""
    return bearing(ring.create("zenith", ALL_SCOPES)[1])


def upload(http, headers, data: bytes = PDF, **fields: str):
    form = httpx.Request("POST", "http://x/", data=fields, files={"file": ("a.pdf", data)})
    return http.post("/ingestions", data=form.read(), content_type=form.headers["Content-Type"], headers=headers)


def nodes(make_app, **changes: object):
    """Clients of two nodes of one installation."""
    return [make_app(auth="keys", **changes).test_client() for _ in range(2)]


def test_requests_are_counted_over_all_nodes(make_app, acme, zenith):
    """The one too many is refused wherever it comes, and told when to come again; others don't notice."""
    one, other = nodes(make_app, limit_requests_per_minute=4)
    answers = [node.get("/ingestions", headers=acme) for node in (one, other, one, other, one, other)]
    assert [answer.status_code for answer in answers] == [200] * 4 + [429] * 2
    refused = answers[-1]
    assert refused.json["code"] == "rate_limited"
    wait = int(refused.headers["Retry-After"])
    assert 0 < wait <= 60
    assert refused.headers["RateLimit-Policy"] == '"requests";q=4;w=60'
    assert refused.headers["RateLimit"] == f'"requests";r=0;t={wait}'
    assert one.get("/ingestions", headers=zenith).status_code == 200


def test_a_stream_is_a_request_too_and_one_too_many_is_asked_to_come_back(make_app, acme):
    """An EventSource would give up for good on a 429."""
    one, other = nodes(make_app, limit_requests_per_minute=2)
    document = upload(one, acme).json["id"]
    assert one.get("/ingestions", headers=acme).status_code == 200
    answer = other.get(f"/status/stream/{document}", headers=acme)
    assert answer.status_code == 200
    assert answer.text.startswith(": Your tenant has made 2 requests in a minute.\n")
    assert "retry: " in answer.text


def test_who_only_wants_the_head_of_a_stream_makes_a_request_too(make_app, acme):
    """It is looked up like the stream itself."""
    one, other = nodes(make_app, limit_requests_per_minute=2)
    document = upload(one, acme).json["id"]
    assert other.head(f"/status/stream/{document}", headers=acme).status_code == 200
    assert one.get("/ingestions", headers=acme).status_code == 429


def test_an_upload_that_announces_more_than_is_left_is_refused_before_it_comes(make_app, acme):
    """Not a byte of it is read."""
    one, other = nodes(make_app, limit_bytes_per_hour=2 * MEBIBYTE)
    assert upload(one, acme, PDF + b"x" * MEBIBYTE).status_code == 202
    body = io.BytesIO(b"nobody reads this")
    announced = {"CONTENT_TYPE": FORM, "CONTENT_LENGTH": str(2 * MEBIBYTE), "wsgi.input": body}
    answer = other.post("/ingestions", headers=acme, environ_overrides=announced)
    assert (answer.status_code, answer.json["code"]) == (429, "quota_bytes")
    assert 0 < int(answer.headers["Retry-After"]) <= 3600
    assert body.tell() == 0


def test_bytes_count_as_they_come_whatever_becomes_of_them(make_app, acme, zenith, settings):
    """An upload that announces nothing is stopped in the middle, and one that fails has used the line as well."""
    one, other = nodes(make_app, limit_bytes_per_hour=4 * STEP_BYTES)
    spoilt = upload(one, acme, PDF + b"x" * (2 * STEP_BYTES), engine="magic")
    assert spoilt.json["code"] == "invalid_option"
    whole = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%b\r\n--x--\r\n'
    body = io.BytesIO(whole % (PDF + b"x" * (8 * STEP_BYTES)))
    silent = {"CONTENT_TYPE": FORM, "wsgi.input": body, "wsgi.input_terminated": True}
    answer = other.post("/ingestions", headers=acme, environ_overrides=silent)
    assert (answer.status_code, answer.json["code"]) == (429, "quota_bytes")
    assert body.tell() <= 3 * STEP_BYTES
    assert upload(one, zenith).status_code == 202


def test_documents_on_their_way_are_bounded_over_all_nodes(make_app, acme, zenith, client, settings):
    """One more is refused until one of them ends; a retry needs a seat as well."""
    one, other = nodes(make_app, limit_documents=2)
    first, second = (upload(node, acme).json["id"] for node in (one, other))
    for node in (one, other):
        refused = upload(node, acme)
        assert (refused.status_code, refused.json["code"]) == (429, "too_many_documents")
        assert int(refused.headers["Retry-After"]) > 0
    assert upload(one, zenith).status_code == 202
    assert other.delete(f"/ingestions/{first}", headers=acme).json["status"] == "CANCELLED"
    assert upload(one, acme).status_code == 202
    assert one.post(f"/ingestions/{first}/retry", headers=acme).json["code"] == "too_many_documents"
    assert other.delete(f"/ingestions/{second}", headers=acme).status_code == 200
    assert one.post(f"/ingestions/{first}/retry", headers=acme).status_code == 202
    assert client.zcard(keys.active("acme")) == 2


def test_an_upload_that_comes_again_needs_no_seat_of_its_own(make_app, acme):
    """With its Idempotency-Key it is answered as at first, also when its own document has the last seat."""
    one, other = nodes(make_app, limit_documents=1)
    key = {**acme, "Idempotency-Key": "k"}
    first, again = upload(one, key), upload(other, key)
    assert (again.status_code, again.json["id"]) == (202, first.json["id"])
    assert upload(other, key, PDF + b"x").json["code"] == "idempotency_key_reused"
    assert upload(other, {**acme, "Idempotency-Key": "l"}).json["code"] == "too_many_documents"


def bounded(settings, **limits: int):
    return settings.model_copy(update={"auth": "keys", **limits})


def test_a_seat_is_taken_at_the_same_moment_as_it_is_looked_for(settings, client, store):
    """Not even those who saw a free one together get it both."""
    seats = Seats(client, bounded(settings, limit_documents=1))
    seats.check("acme")
    seats.take("acme", "a")
    seats.take("acme", "a")
    with pytest.raises(TooManyDocuments):
        seats.take("acme", "b")


def test_seats_that_a_crash_left_without_a_document_are_found(settings, client):
    """A node died between the seat and the document: a minute later somebody else has the seat."""
    seconds = [1_000_000.0]
    asking = bounded(settings, limit_documents=1)
    seats = Seats(client, asking, clock=lambda: seconds[0])
    seats.take("default", "gone")
    with pytest.raises(TooManyDocuments):
        seats.check("default")
    seconds[0] += GRACE_SECONDS + 1
    seats.take("default", "next")
    assert client.zrange(keys.active("default"), 0, -1) == [b"next"]


def test_a_document_without_a_seat_is_given_one_by_the_sweeper(settings, client):
    """Redis forgot it, or the document is older than the seats."""
    store = Store(client, settings)
    store.create("d", SOURCE)
    store.create("over", SOURCE)
    store.record("over", 1, Status.CANCELLED, "Cancelled")
    client.delete(keys.active("default"))
    celery = make_celery(settings)
    sweeper = Sweeper(celery, client, settings)
    for _ in range(2):  # the first begins the audit
        sweeper.sweep()
    celery.close()
    assert client.zrange(keys.active("default"), 0, -1) == [b"d"]


def streaming(http, document: str, headers):
    """A stream of an app that is opened, up to its first piece, and must be closed."""
    return open_stream(http, f"/status/stream/{document}", headers)


def open_stream(http, path: str, headers=None):
    answer = http.get(path, headers=headers)
    return answer, next(answer.response).decode()


def test_streams_are_bounded_over_all_nodes_and_one_too_many_is_put_off(make_app, acme, zenith):
    """It is asked to come back, and finds room when another has left."""
    one, other = nodes(make_app, limit_streams=2)
    document, theirs = upload(one, acme).json["id"], upload(one, zenith).json["id"]
    held = [streaming(node, document, acme)[0] for node in (one, other)]
    for node in (one, other):
        put_off, said = streaming(node, document, acme)
        assert put_off.status_code == 200
        assert said.startswith(": Your tenant has 2 streams, which is its bound.\n")
    stranger, said = streaming(one, theirs, zenith)
    assert said == "retry: 2000\n\n"
    held[0].close()
    wait_until(lambda: streaming_is_let(other, document, acme), what="room on the other node")
    held[1].close()
    stranger.close()


def streaming_is_let(http, document: str, headers) -> bool:
    answer, said = streaming(http, document, headers)
    answer.close()
    return not said.startswith(":")


def test_who_has_links_takes_nothing_of_the_requests_of_keys(make_app, acme):
    """Not even with one of a document that is gone, which opens nothing. Links have as many of their own."""
    one, other = nodes(make_app, limit_requests_per_minute=4)
    gone = upload(one, acme).json
    for _ in ("cancelled", "removed"):
        one.delete(f"/ingestions/{gone['id']}", headers=acme)
    assert [node.get(gone["stream_url"]).status_code for node in (one, other, one, other)] == [404] * 4
    put_off = one.get(gone["stream_url"])
    assert put_off.status_code == 200
    assert put_off.text.startswith(": The links of your tenant have opened 4 streams in a minute.\n")
    assert other.get("/ingestions", headers=acme).status_code == 200
    assert other.get("/ingestions", headers=acme).status_code == 429


@pytest.mark.parametrize(("most", "of_links"), [(1, 1), (4, 2), (5, 3)])
def test_who_has_links_takes_at_most_half_of_the_streams(make_app, acme, most, of_links):
    """Over all nodes; those that keys have opened leave links no more than there are."""
    both = nodes(make_app, limit_streams=most)
    document = upload(both[0], acme).json
    path, by_link = document["id"], document["stream_url"]
    held = [open_stream(both[n % 2], by_link)[0] for n in range(of_links)]
    for node in both:
        put_off, said = open_stream(node, by_link)
        assert said.startswith(f": The links of your tenant have {of_links} streams, which is their bound.\n")
        put_off.close()
    held += [streaming(both[n % 2], path, acme)[0] for n in range(most - of_links)]
    held.pop(0).close()
    of_key, said = streaming(both[0], path, acme)
    put_off, why = open_stream(both[0], by_link)
    assert said == "retry: 2000\n\n"
    assert why.startswith(f": Your tenant has {most} streams, which is its bound.\n")
    for answer in (*held, of_key, put_off):
        answer.close()


def test_the_streams_of_a_node_that_died_are_free_within_seconds(settings, client):
    """It held them by a lease, which nobody renews; those of a node that lives stay held."""
    asking = bounded(settings, limit_streams=2)
    alive, latecomer = Shares(asking, client), Shares(asking, client)
    alive.take("acme")
    dead = ["a process that is gone", 1, round(LEASE_SECONDS * 1000), 2, 1]
    assert alive._say(keys=[keys.streams("acme")], args=dead) == 1

    def let() -> bool:
        try:
            latecomer.take("acme")
        except NoSeat:
            return False
        return True

    assert not let()
    wait_until(let, within_seconds=LEASE_SECONDS + 2)
    assert not let()
    alive.close()
    latecomer.close()


def test_what_a_process_said_later_is_not_undone_by_what_it_said_before(settings, client):
    """Two of its connections may overtake each other."""
    shares = Shares(bounded(settings, limit_streams=9), client)
    say, key = shares._say, keys.streams("acme")
    assert say(keys=[key], args=["p", 2, 6000, 9, 2]) == 1
    assert say(keys=[key], args=["p", 1, 6000, 9, 1]) == 1
    assert client.hget(key, "p").startswith(b"2 ")


def test_without_keys_there_are_no_limits(make_app):
    """Everybody is one tenant, who shall not lock himself out of his own machine."""
    http = make_app(
        limit_requests_per_minute=1, limit_documents=1, limit_bytes_per_hour=1, limit_streams=1
    ).test_client()
    for _ in range(3):
        assert upload(http, {}).status_code == 202


def test_what_can_not_be_counted_is_not_let_through(settings, tmp_path):
    """Without Redis every count fails, and none lets anybody pass."""
    gone = bounded(settings).model_copy(update={"redis_url": f"unix://{tmp_path}/gone.sock"})
    current = services.Services.from_settings(gone)
    for count in (
        lambda: current.limits.count_request("acme"),
        lambda: current.limits.foresee_bytes("acme", 1),
        lambda: current.limits.count_bytes("acme", 1),
        lambda: current.store.seats.take("acme", "d"),
        lambda: current.shares.take("acme"),
    ):
        with pytest.raises(StoreUnavailable):
            count()
    current.close()


def test_a_flood_of_bad_keys_does_not_reach_the_database(make_app, ring, acme, zenith, monkeypatch):
    """Some are looked up, then all ids are read once; good keys are good all the while, known here or not."""
    http = make_app(auth="keys").test_client()
    asked: list[str] = []
    find, ids = KeyRing.find, KeyRing.ids
    monkeypatch.setattr(KeyRing, "find", lambda ring, key_id: asked.append(key_id) or find(ring, key_id))
    monkeypatch.setattr(KeyRing, "ids", lambda ring: asked.append("all") or ids(ring))
    monkeypatch.setattr("ingest_web.guard.FRESH_SECONDS", 3600.0)
    assert http.get("/ingestions", headers=acme).status_code == 200
    for n in range(200):
        assert http.get("/ingestions", headers=bearing(f"ingest_{n:016x}_{'x' * 43}")).status_code == 401
    assert http.get("/ingestions", headers=zenith).status_code == 200
    assert http.get("/ingestions", headers=acme).status_code == 200
    assert len(asked) == MOST_LOOKUPS + 2


def test_one_tenant_has_at_most_half_of_the_requests_in_hand(make_app, acme, zenith):
    """However slow its clients are, others are served; what is answered counts no more."""
    app = make_app(auth="keys")
    http, in_hand = app.test_client(), services.of(app).in_hand
    in_hand._most = 1
    answer = http.get("/ingestions", headers=acme)
    assert http.get("/ingestions", headers=acme).json["code"] == "rate_limited"  # the first is not taken yet
    http.get("/ingestions", headers=zenith).close()
    answer.close()
    http.get("/ingestions", headers=acme).close()
    assert not in_hand._counts


def test_a_place_is_given_back_once():
    """And then it is free."""
    in_hand = InHand(1)
    in_hand.take("acme")
    with pytest.raises(RateLimited):
        in_hand.take("acme")
    in_hand.give_back("acme")
    in_hand.take("acme")


def test_counting_takes_no_connections_of_its_own(settings, client):
    """A web process holds a few to Redis, whatever it counts."""
    limits = Limits(bounded(settings), client)
    before = len(client.client_list())
    for n in range(20):
        limits.count_request(f"tenant-{n}")
    assert len(client.client_list()) == before
