"""The routes of webhooks: endpoints, their deliveries, and uploads that name one."""

from __future__ import annotations

import io
import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime

import gevent
import pytest
from sqlalchemy import Connection, update
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from ingest_web import lookup, services, webhooks
from ingest_web.limits import MOST_TESTS
from ingest_worker.collector import Collector
from shared import endpoints, keys
from shared.access import Scope
from shared.deliveries import Deliveries
from shared.endpoints import MOST_STANDING, Endpoints
from shared.errors import StoreUnavailable
from shared.jobs import Status
from shared.keyring import KeyRing
from shared.outbox import Outbox
from shared.protocol import Stage
from shared.sealing import Seal
from shared.webhook_tables import ENDPOINTS, WebhookDatabase
from shared.webhooks import CHOICE
from tests.awaiting import wait_until
from tests.couriers import couriers

PDF = b"%PDF-1.4\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"

URL = "https://93.184.216.34/hooks"

DAY_SECONDS = 24 * 3600


@pytest.fixture
def settings(settings):
    """The loopback may be called, but for 127.6.6.6."""
    return settings.model_copy(
        update={"webhook_allowed_networks": "127.0.0.0/16", "webhook_retry_seconds": "0.1", "webhook_seconds": 1.0}
    )


@pytest.fixture
def database(settings) -> Iterator[WebhookDatabase]:
    with closing(WebhookDatabase.from_settings(settings)) as database:
        yield database


@pytest.fixture
def endpoint(http) -> dict:
    """An endpoint that has just been made."""
    return http.post("/webhooks", json={"url": URL}).json


def upload(http, key: str | None = None, **fields: str):
    headers = {} if key is None else {"Idempotency-Key": key}
    return http.post("/ingestions", data={"file": (io.BytesIO(PDF), "a.pdf"), **fields}, headers=headers)


def complete(store, document_id: str) -> None:
    for status in (Status.PARSING, Status.CHUNKING, Status.LOADING):
        store.record(document_id, 1, status, "...")
    store.record(document_id, 1, Status.LOADING, "...", stage=Stage(2, 2, "chunks"))
    store.record(document_id, 1, Status.COMPLETED, "...")


def test_an_endpoint_is_made_and_its_secret_is_shown_once(http, endpoint, database, settings):
    """Then it is only there sealed; whoever has the database and not the key has nothing."""
    answer = http.get(f"/webhooks/{endpoint['id']}")
    secret = endpoint.pop("secret")
    assert answer.json == endpoint
    assert (endpoint["kind"], endpoint["url"], endpoint["events"], endpoint["enabled"]) == ("standing", URL, [], True)
    assert http.get("/webhooks").json == {"webhooks": [endpoint], "next": None}
    (kept,) = Endpoints(database).get("default", endpoint["id"]).secrets
    assert secret.startswith("whsec_")
    assert secret not in kept.sealed
    assert Seal(settings).open(kept.sealed) == secret


def test_an_endpoint_is_changed_field_by_field(http, endpoint):
    """What is left out stays."""
    path = f"/webhooks/{endpoint['id']}"
    changed = http.patch(path, json={"events": ["ingestion.failed"], "description": "Ops"}).json
    assert (changed["events"], changed["description"], changed["url"]) == (["ingestion.failed"], "Ops", URL)
    changed = http.patch(path, json={"url": "https://93.184.216.34/other"}).json
    assert (changed["events"], changed["url"]) == (["ingestion.failed"], "https://93.184.216.34/other")
    assert http.patch(path, json={}).json == changed


def test_an_endpoint_is_removed(http, endpoint):
    """And is not there any more."""
    path = f"/webhooks/{endpoint['id']}"
    assert http.delete(path).status_code == 204
    for answer in (http.get(path), http.delete(path), http.patch(path, json={}), http.post(f"{path}/test")):
        assert (answer.status_code, answer.json["code"]) == (404, "unknown_endpoint")


def test_endpoints_are_listed_page_by_page(http):
    """Each once."""
    made = {http.post("/webhooks", json={"url": URL}).json["id"] for _ in range(5)}
    first = http.get("/webhooks?limit=2").json
    second = http.get(first["next"]).json
    third = http.get(second["next"]).json
    assert third["next"] is None
    assert {one["id"] for page in (first, second, third) for one in page["webhooks"]} == made
    for limit in ("0", "1" * 5000):
        refused = http.get(f"/webhooks?limit={limit}")
        assert (refused.status_code, refused.json["code"]) == (422, "invalid_option")


def test_a_tenant_has_a_bounded_number_of_endpoints(http):
    """Each hears of every document."""
    for _ in range(MOST_STANDING):
        assert http.post("/webhooks", json={"url": URL}).status_code == 201
    answer = http.post("/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json["code"]) == (409, "too_many_endpoints")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com", "https://"),
        ("https://me:pw@93.184.216.34/", "password"),
        ("https://127.6.6.6/", "loopback"),
        ("https://2131101190/", "loopback"),
        ("http://93.184.216.34/", "TLS"),
        ("https://169.254.169.254/latest/meta-data", "metadata"),
        ("https://[::ffff:10.0.0.1]/", "IPv6"),
        ("https://0x0a000001/", "private"),
        ("https://10.1/", "private"),
    ],
)
def test_a_url_that_would_not_be_called_is_refused_at_once(http, url, said):
    """With the reason. The courier looks again at each delivery."""
    for answer in (http.post("/webhooks", json={"url": url}), upload(http, webhook_url=url)):
        assert answer.status_code == 422
        assert answer.json["code"] in {"refused_url", "invalid_option"}
        assert said in answer.json["detail"]
        assert answer.json["option"] in {"url", "webhook_url"}


@pytest.fixture
def stall(monkeypatch) -> Iterator[threading.Event]:
    """Until it is set, name servers of ``*.stalled.example`` do not answer; every name leads to a private address."""
    over = threading.Event()

    def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple]:
        if host.endswith(".stalled.example"):
            over.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield over
    over.set()


def statuses(app, names: Sequence[str]) -> list[int | None]:
    """What those are answered who name these hosts at the same time; None where nobody was within ten seconds."""
    posts = [gevent.spawn(app.test_client().post, "/webhooks", json={"url": f"https://{name}/"}) for name in names]
    gevent.joinall(posts, timeout=10)
    return [post.value.status_code if post.ready() else None for post in posts]


def test_name_servers_that_stall_hold_nobody_up_however_many_they_are(app, stall, monkeypatch):
    """A name that can't be looked up in time, or behind others, is let through: what counts is the look at each
    delivery. When the stall is over, all are looked up again.
    """
    names = [f"{number}.stalled.example" for number in range(3 * lookup.LOOKUPS)]
    with monkeypatch.context() as patch:
        patch.setattr(lookup, "LOOKUP_SECONDS", 0.05)
        assert statuses(app, [*names, "well.example"]) == [201] * (len(names) + 1)
    stall.set()
    monkeypatch.setattr(lookup, "LOOKUP_SECONDS", 60)
    assert statuses(app, [*names, "well.example"]) == [422] * (len(names) + 1)


@pytest.mark.parametrize(
    ("body", "option"),
    [
        ({}, "url"),
        ({"url": 1}, "url"),
        ({"url": URL, "events": ["ingestion.everything"]}, "events.0"),
        ({"url": URL, "events": ["endpoint.test"]}, "events.0"),
        ({"url": URL, "description": "a\u0000b"}, "description"),
        ({"url": URL, "description": "x" * 201}, "description"),
        ({"url": URL, "secret": "whsec_mine"}, "secret"),
        ([], None),
    ],
)
def test_a_body_that_is_wrong_is_told_what_is_wrong(http, body, option):
    """By the name of the field; nothing is made."""
    answer = http.post("/webhooks", json=body)
    assert (answer.status_code, answer.json["code"], answer.json.get("option")) == (422, "invalid_option", option)
    assert http.get("/webhooks").json["webhooks"] == []


@pytest.mark.parametrize("data", [b"", b"{", b"[" * 60_000, b'{"url":"\xff"}'])
def test_what_is_no_json_is_told_so(http, data):
    """However deep or broken."""
    answer = http.post("/webhooks", data=data, content_type="application/json")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_option")


def test_a_body_must_say_that_it_is_json_and_be_small(http, endpoint):
    """A page of another origin can send a form or plain text unasked, and must not make endpoints so."""
    body = json.dumps({"url": URL})
    for path in ("/webhooks", f"/webhooks/{endpoint['id']}/rotate", f"/webhooks/{endpoint['id']}/recover"):
        answer = http.post(path, data=body, content_type="text/plain")
        assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")
    large = http.post("/webhooks", data=b" " * (webhooks.MOST_BODY_BYTES + 1), content_type="application/json")
    assert (large.status_code, large.json["code"]) == (413, "request_entity_too_large")


def test_all_types_can_be_chosen(http):
    """One by one or together."""
    made = http.post("/webhooks", json={"url": URL, "events": list(CHOICE)}).json
    assert made["events"] == list(CHOICE)


def test_another_tenant_s_endpoint_is_not_there(make_app, settings):
    """By no route, also with a key that is good for everything of its own tenant; without the scope there is none."""
    with closing(KeyRing.from_settings(settings)) as ring:
        keys = {
            tenant: {"Authorization": f"Bearer {ring.create(tenant, {Scope.ADMIN})[1]}"} for tenant in ("acme", "other")
        }
        reader = {"Authorization": f"Bearer {ring.create('acme', {Scope.READ, Scope.UPLOAD})[1]}"}
    http = make_app(auth="keys").test_client()
    made = http.post("/webhooks", json={"url": URL}, headers=keys["acme"]).json
    path = f"/webhooks/{made['id']}"
    ways: list[tuple[str, Callable, dict]] = [
        (path, http.get, {}),
        (path, http.patch, {"json": {}}),
        (path, http.delete, {}),
        (f"{path}/rotate", http.post, {"json": {}}),
        (f"{path}/test", http.post, {}),
        (f"{path}/deliveries", http.get, {}),
        (f"{path}/deliveries/dl_{'0' * 26}/redeliver", http.post, {}),
        (f"{path}/recover", http.post, {"json": {"since": "2026-01-01T00:00:00Z"}}),
    ]
    for target, ask, body in ways:
        assert ask(target, headers=keys["other"], **body).json["code"] == "unknown_endpoint", target
        assert ask(target, headers=reader, **body).json["code"] == "forbidden", target
        assert ask(target, **body).json["code"] == "unauthorized", target
    assert http.get("/webhooks", headers=keys["other"]).json["webhooks"] == []
    assert http.get(path, headers=keys["acme"]).status_code == 200


def test_a_test_shows_what_came_of_it(http, settings, database, receiver):
    """At once, through the same way as all else: what was sent, what came back, how long it took."""
    good = http.post("/webhooks", json={"url": receiver.url("ok", "tested"), "events": ["ingestion.failed"]}).json
    bad = http.post("/webhooks", json={"url": receiver.url("fail", "tested")}).json
    receiver.tell_secrets({"/ok/tested": good["secret"]})
    with couriers(settings, database):
        well, ill = (http.post(f"/webhooks/{one['id']}/test").json for one in (good, bad))
    assert (well["state"], well["type"], len(well["attempts"])) == ("delivered", "endpoint.test", 1)
    assert well["attempts"][0]["status"] == 200
    assert well["attempts"][0]["answer"] == "thanks"
    assert well["attempts"][0]["request_headers"]["webhook-id"] == well["message_id"]
    (got,) = receiver.at("/ok/tested")
    assert (got["verified"], got["body"]) == (True, well["body"])
    assert (ill["state"], ill["attempts"][0]["status"], ill["attempts"][0]["answer"]) == ("failed", 500, "no")
    assert http.get(f"/webhooks/{bad['id']}").json["failing_since"] is None


def test_a_test_without_a_courier_is_pending(http, endpoint, monkeypatch):
    """Whoever asks is not kept waiting for long."""
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.1)
    assert http.post(f"/webhooks/{endpoint['id']}/test").json["state"] == "pending"


def test_a_test_ends_when_its_endpoint_is_removed(app, http, endpoint):
    """With the answer that any other request for it gets from then on."""
    answers = []
    path = f"/webhooks/{endpoint['id']}"
    asking = threading.Thread(target=lambda: answers.append(app.test_client().post(f"{path}/test")))
    asking.start()
    wait_until(lambda: told(http, endpoint["id"]))
    assert http.delete(path).status_code == 204
    asking.join()
    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(404, "unknown_endpoint")]


def test_few_wait_for_tests_at_the_same_time(app, http, endpoint, monkeypatch):
    """Each asks the database again and again: who is one too many is told when to come again, as others are not."""
    monkeypatch.setattr(webhooks, "TEST_SECONDS", 0.0)
    path, waiting = f"/webhooks/{endpoint['id']}/test", services.of(app).tests
    for _ in range(MOST_TESTS):
        assert http.post(path).status_code == 200
    for _ in range(MOST_TESTS):
        waiting.take("default")
    refused = http.post(path)
    assert (refused.status_code, refused.json["code"]) == (429, "rate_limited")
    assert int(refused.headers["Retry-After"]) > 0
    waiting.take("acme")
    waiting.give_back("default")
    assert http.post(path).status_code == 200


def test_who_waits_for_a_test_looks_less_and_less_often():
    """At once at first, some twenty times in all."""
    waits = list(itertools.takewhile(lambda at: at < webhooks.TEST_SECONDS, itertools.accumulate(webhooks.pauses())))
    assert waits[0] <= 0.05
    assert len(waits) <= 20


def test_what_failed_is_listed_and_sent_again(http, settings, database, store, receiver):
    """One, or all since a time."""
    made = http.post("/webhooks", json={"url": receiver.url("told", "again")}).json
    path = f"/webhooks/{made['id']}"
    receiver.tell_secrets({"/told/again": made["secret"]})
    receiver.answer_told(500)
    complete(store, upload(http).json["id"])
    with couriers(settings, database):
        wait_until(lambda: states(http, path) == ["failed"] * 4, what="all given up")
        first = http.get(f"{path}/deliveries").json["deliveries"][-1]
        assert (first["type"], first["error"], len(first["attempts"])) == ("ingestion.started", "refused", 2)
        assert http.get(path).json["failing_since"] is not None

        receiver.answer_told(202)
        again = http.post(f"{path}/deliveries/{first['id']}/redeliver")
        assert (again.status_code, again.json["id"]) == (202, first["id"])
        wait_until(lambda: states(http, path).count("delivered") == 1)
        assert http.get(path).json["failing_since"] is None

        assert http.post(f"{path}/recover", json={"since": "2100-01-01T00:00:00Z"}).json == {"recovered": 0}
        assert http.post(f"{path}/recover", json={"since": "2000-01-01T00:00:00+00:00"}).json == {"recovered": 3}
        wait_until(lambda: states(http, path) == ["delivered"] * 4)
    assert all(one["verified"] for one in receiver.at("/told/again"))
    ids = [one["headers"]["webhook-id"] for one in receiver.at("/told/again")]
    assert len(set(ids)) == 4
    unknown = http.post(f"{path}/deliveries/dl_{'0' * 26}/redeliver")
    assert (unknown.status_code, unknown.json["code"]) == (404, "unknown_delivery")


def states(http, path: str) -> list[str]:
    return [one["state"] for one in http.get(f"{path}/deliveries").json["deliveries"]]


def test_deliveries_are_listed_page_by_page(http, settings, database, store, endpoint):
    """The newest first."""
    path = f"/webhooks/{endpoint['id']}/deliveries"
    complete(store, upload(http).json["id"])
    with couriers(settings, database):
        wait_until(lambda: len(http.get(path).json["deliveries"]) == 4)
    first = http.get(f"{path}?limit=3").json
    rest = http.get(first["next"]).json
    assert [one["type"].partition(".")[2] for one in (*first["deliveries"], *rest["deliveries"])] == [
        *("completed", "stage_changed", "stage_changed", "started")
    ]
    assert rest["next"] is None


def test_a_rotation_keeps_the_old_secret_alive_for_a_while(http, settings, database, receiver):
    """Messages are signed with both; without overlap the old one is dead at once."""
    made = http.post("/webhooks", json={"url": receiver.url("ok", "rotated")}).json
    path = f"/webhooks/{made['id']}"
    second = http.post(f"{path}/rotate", json={"overlap_seconds": DAY_SECONDS}).json["secret"]
    with couriers(settings, database):
        http.post(f"{path}/test")
        third = http.post(f"{path}/rotate", json={"overlap_seconds": 0}).json["secret"]
        http.post(f"{path}/test")
    both, last = receiver.at("/ok/rotated")
    assert (verifies(both, made["secret"]), verifies(both, second)) == (True, True)
    assert len(both["headers"]["webhook-signature"].split()) == 2
    assert [verifies(last, secret) for secret in (made["secret"], second, third)] == [False, False, True]


def verifies(got: dict, secret: str) -> bool:
    signatures = {f"v1,{one.partition(',')[2]}" for one in got["headers"]["webhook-signature"].split()}
    headers = got["headers"]
    moment = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    return Webhook(secret).sign(headers["webhook-id"], moment, got["body"]) in signatures


def test_nothing_is_sent_to_an_endpoint_that_is_disabled_and_all_can_be_recovered(
    http, settings, database, store, receiver
):
    """What happens meanwhile is not forgotten; a test or a repetition is refused until it is enabled."""
    path = f"/webhooks/{http.post('/webhooks', json={'url': receiver.url('ok', 'off')}).json['id']}"
    off = http.patch(path, json={"enabled": False}).json
    assert (off["enabled"], off["disabled_reason"]) == (False, "by_owner")
    complete(store, upload(http).json["id"])
    with couriers(settings, database):
        wait_until(lambda: states(http, path) == ["failed"] * 4)
        refused = http.post(f"{path}/test")
        assert (refused.status_code, refused.json["code"]) == (409, "endpoint_disabled")
        on = http.patch(path, json={"enabled": True}).json
        assert (on["enabled"], on["disabled_reason"]) == (True, None)
        assert http.post(f"{path}/recover", json={"since": "2000-01-01T00:00:00Z"}).json == {"recovered": 4}
        wait_until(lambda: states(http, path) == ["delivered"] * 4)
    assert len(receiver.at("/ok/off")) == 4


def test_an_endpoint_that_had_failed_can_be_disabled_by_its_owner(http, endpoint, database):
    """Then it is a choice, which stays; else the next upload that names it would begin anew."""
    Deliveries(database).disable(endpoint["id"], "failing")
    off = http.patch(f"/webhooks/{endpoint['id']}", json={"enabled": False}).json
    assert (off["enabled"], off["disabled_reason"]) == (False, "by_owner")


def test_an_endpoint_is_known_as_long_as_its_document_is_retried(http, database, store):
    """However long ago the upload named it."""
    document_id = upload(http, webhook_url=URL).json["id"]
    store.record(document_id, 1, Status.FAILED, "...")
    with database.writing() as transaction:
        transaction.execute(update(ENDPOINTS).values(updated_at=0.0))
    assert http.post(f"/ingestions/{document_id}/retry").status_code == 202
    assert Endpoints(database).forget(time.time()) == 0
    assert [one["url"] for one in http.get("/webhooks").json["webhooks"]] == [URL]


def test_an_upload_may_name_an_endpoint_of_its_own(http, settings, database, store, receiver):
    """It hears of the documents whose upload names it; its secret is in the answer to the first, and never again."""
    url = receiver.url("ok", "upload")
    first, second = (upload(http, webhook_url=url, reuse="false").json for _ in range(2))
    other = upload(http, reuse="false").json
    assert first["webhook"]["id"] == second["webhook"]["id"]
    assert "secret" not in second["webhook"]
    assert "webhook" not in other
    receiver.tell_secrets({"/ok/upload": first["webhook"]["secret"]})
    for one in (first, second, other):
        complete(store, one["id"])
    with couriers(settings, database):
        wait_until(lambda: len(receiver.at("/ok/upload")) == 8)
    got = receiver.at("/ok/upload")
    assert {json.loads(one["body"])["data"]["id"] for one in got} == {first["id"], second["id"]}
    assert all(one["verified"] for one in got)
    shown = http.get(f"/webhooks/{first['webhook']['id']}").json
    assert (shown["kind"], shown["url"]) == ("upload", url)
    assert http.post(f"/webhooks/{shown['id']}/rotate", json={}).json["secret"].startswith("whsec_")


def test_the_secret_of_an_upload_s_endpoint_is_lost_with_no_answer(http):
    """Who is refused is told none, so the next is; who sends the same again with its key is told it again."""
    assert upload(http, "k").status_code == 202
    assert upload(http, "k", webhook_url=URL).json["code"] == "idempotency_key_reused"
    first, again = (upload(http, "l", webhook_url=URL).json["webhook"] for _ in range(2))
    assert first["secret"].startswith("whsec_")
    assert again == first
    assert upload(http, "m", webhook_url=URL).json["webhook"] == {"id": first["id"]}
    assert http.post(f"/webhooks/{first['id']}/rotate", json={}).status_code == 200
    assert upload(http, "l", webhook_url=URL).json["webhook"] == {"id": first["id"]}


def test_an_upload_that_succeeded_is_answered_also_when_its_secret_can_not_be_shown(http, monkeypatch):
    """The document is made. The next upload is told the secret."""
    with monkeypatch.context() as patch:
        patch.setattr(Endpoints, "tell_secret", unreachable)
        answer = upload(http, webhook_url=URL)
    assert (answer.status_code, "secret" in answer.json["webhook"]) == (202, False)
    assert "secret" in upload(http, webhook_url=URL).json["webhook"]


def unreachable(*_: object) -> None:
    raise StoreUnavailable("The database can't be reached.")


def test_an_upload_that_gets_an_earlier_result_is_told_of_it(http, settings, database, store, receiver):
    """Whoever waits for the webhook is not left waiting; and again, if they ask again."""
    earlier = upload(http).json["id"]
    complete(store, earlier)
    store.remember_result(earlier, store.source(earlier))
    url = receiver.url("ok", "reused")
    with couriers(settings, database):
        for times in (1, 2):
            answer = upload(http, webhook_url=url)
            assert (answer.status_code, answer.json["id"], answer.json["reused"]) == (200, earlier, True)
            wait_until(lambda times=times: len(receiver.at("/ok/reused")) == times)
            # Who asks while a message is under way is told by that one.
            shown = f"/webhooks/{answer.json['webhook']['id']}/deliveries"
            wait_until(lambda shown=shown: http.get(shown).json["deliveries"][0]["state"] == "delivered")
    assert {json.loads(one["body"])["type"] for one in receiver.at("/ok/reused")} == {"ingestion.completed"}


#: What an endpoint hears of a document from its beginning on: types with counts.
WHOLE = [
    ("ingestion.started", {}),
    ("ingestion.stage_changed", {}),
    ("ingestion.stage_changed", {}),
    ("ingestion.completed", {"chunks": 2}),
]


def heard(http, endpoint_id: str) -> list[tuple[str, dict]]:
    """What is entered for an endpoint, in order."""
    entered = reversed(http.get(f"/webhooks/{endpoint_id}/deliveries").json["deliveries"])
    return [(one["type"], json.loads(one["body"])["data"]["counts"]) for one in entered]


def test_an_upload_that_gets_an_earlier_result_comes_before_no_courier(http, database, store, client, endpoint):
    """What none has taken over yet is told first, so everyone hears of the document in order. Taken over later, it is
    told to nobody twice.
    """
    earlier = upload(http, webhook_url=f"{URL}/first").json
    complete(store, earlier["id"])
    store.remember_result(earlier["id"], store.source(earlier["id"]))
    again, other = (upload(http, webhook_url=f"{URL}/{name}").json for name in ("first", "other"))
    assert (again["id"], again["webhook"]["id"]) == (earlier["id"], earlier["webhook"]["id"])
    expected = {endpoint["id"]: WHOLE, earlier["webhook"]["id"]: WHOLE, other["webhook"]["id"]: WHOLE[-1:]}
    assert {name: heard(http, name) for name in expected} == expected
    Collector(Outbox(client, "one"), Deliveries(database)).collect()
    assert {name: heard(http, name) for name in expected} == expected
    assert client.exists(keys.OUTBOX, keys.outbox(earlier["id"])) == 0


def test_who_alone_is_told_of_an_earlier_result_takes_no_counts_from_others(http, database, store, client):
    """Nor lacks them, as long as they are in the outbox: whoever hears of it later is told the same."""
    earlier = upload(http).json["id"]
    complete(store, earlier)
    store.remember_result(earlier, store.source(earlier))
    alone = upload(http, webhook_url=URL).json["webhook"]["id"]
    assert heard(http, alone) == WHOLE[-1:]
    late = http.post("/webhooks", json={"url": URL}).json["id"]
    Collector(Outbox(client, "one"), Deliveries(database)).collect()
    assert heard(http, late) == WHOLE


def told(http, endpoint_id: str) -> list[tuple[str, str]]:
    """What an endpoint has been told of and what came of it, newest first."""
    found = http.get(f"/webhooks/{endpoint_id}/deliveries").json["deliveries"]
    return [(one["message_id"], one["state"]) for one in found]


def test_an_upload_that_is_sent_again_with_its_key_tells_nothing_again(http, settings, database, store, receiver):
    """Neither of its own document, which has its own news, nor of an earlier one that it was answered with."""
    url = receiver.url("ok", "replayed")
    first = upload(http, "k", webhook_url=url).json
    complete(store, first["id"])
    store.remember_result(first["id"], store.source(first["id"]))
    path = first["webhook"]["id"]
    with couriers(settings, database):
        wait_until(lambda: [state for _, state in told(http, path)] == ["delivered"] * 4)
    before = told(http, path)
    again = upload(http, "k", webhook_url=url)
    assert (again.status_code, again.json["id"], again.headers["Idempotent-Replayed"]) == (202, first["id"], "true")
    assert told(http, path) == before
    assert upload(http, "l", webhook_url=url).status_code == 200
    with couriers(settings, database):
        wait_until(lambda: len(receiver.at("/ok/replayed")) == 5 and told(http, path) == before)
    again = upload(http, "l", webhook_url=url)
    assert (again.status_code, again.json["id"]) == (200, first["id"])
    assert told(http, path) == before


def test_an_upload_that_is_sent_again_tells_of_no_document_but_its_own(http, store):
    """Others may have brought the same bytes meanwhile: theirs is the newer result, and their own business."""
    mine = upload(http, "k", webhook_url=URL).json
    theirs = upload(http).json
    for one in (mine, theirs):
        complete(store, one["id"])
        store.remember_result(one["id"], store.source(one["id"]))
    assert upload(http, "k", webhook_url=URL).json["id"] == mine["id"]
    assert told(http, mine["webhook"]["id"]) == []  # no courier has taken over what there is of its own


@pytest.mark.parametrize("is_removed", [False, True])
def test_what_a_node_died_before_telling_is_told_when_the_upload_comes_again(http, store, monkeypatch, is_removed):
    """Of the document that the answer names, though another is the newer result by then; of one that was removed there
    is nothing to tell.
    """
    earlier, another = (upload(http).json["id"] for _ in range(2))
    complete(store, earlier)
    store.remember_result(earlier, store.source(earlier))
    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(Deliveries, "tell", die)
        upload(http, "k", webhook_url=URL)
    complete(store, another)
    store.remember_result(another, store.source(another))
    if is_removed:
        assert http.delete(f"/ingestions/{earlier}").status_code == 204
    for _ in range(2):
        again = upload(http, "k", webhook_url=URL)
        assert (again.status_code, again.json["id"]) == (200, earlier)
        heard_of = [message_id.split("_")[1] for message_id, _ in told(http, again.json["webhook"]["id"])]
        assert heard_of == ([] if is_removed else [earlier])


def die(*_: object) -> None:
    raise SystemExit


@pytest.fixture
def removed_at_once(monkeypatch, database) -> None:
    """Whatever endpoint is made next is removed at the same moment by somebody else."""
    real = WebhookDatabase.writing

    @contextmanager
    def writing(self: WebhookDatabase) -> Iterator[Connection]:
        with real(self) as transaction:
            yield transaction
        monkeypatch.setattr(WebhookDatabase, "writing", real)
        for one in Endpoints(database).of_tenant("default", 9):
            Endpoints(database).remove("default", one.id)

    monkeypatch.setattr(WebhookDatabase, "writing", writing)


@pytest.mark.usefixtures("removed_at_once")
def test_an_upload_whose_endpoint_is_removed_at_the_same_time_is_taken_in(http, database, store, client):
    """It is as if it had been removed right afterwards: nobody is told, and the next upload makes it anew."""
    answer = upload(http, webhook_url=URL)
    assert (answer.status_code, "secret" in answer.json["webhook"]) == (202, False)
    complete(store, answer.json["id"])
    Collector(Outbox(client, "one"), Deliveries(database)).collect()
    assert client.exists(keys.OUTBOX) == 0
    again = upload(http, webhook_url=URL).json["webhook"]
    assert (again["id"], "secret" in again) == (answer.json["webhook"]["id"], True)
    assert told(http, again["id"]) == []


@pytest.mark.usefixtures("removed_at_once")
def test_an_endpoint_that_is_removed_at_the_same_time_was_made(http):
    """Whoever made it is told so, as if it had been removed right afterwards."""
    answer = http.post("/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json["url"]) == (201, URL)
    assert http.get(answer.headers["Location"]).status_code == 404


def test_uploads_name_a_bounded_number_of_endpoints(http, monkeypatch):
    """One that is known may be named further, another only when one is removed."""
    monkeypatch.setattr(endpoints, "MOST_OF_UPLOADS", 2)
    made = [upload(http, webhook_url=f"{URL}/{n}").json["webhook"]["id"] for n in range(2)]
    refused = upload(http, webhook_url=f"{URL}/2")
    assert (refused.status_code, refused.json["code"]) == (409, "too_many_endpoints")
    assert len(http.get("/ingestions").json["ingestions"]) == 2
    assert upload(http, webhook_url=f"{URL}/1").status_code == 202
    assert http.post("/webhooks", json={"url": URL}).status_code == 201
    assert http.delete(f"/webhooks/{made[0]}").status_code == 204
    assert upload(http, webhook_url=f"{URL}/2").status_code == 202


def test_an_upload_whose_webhook_is_refused_leaves_nothing(http, client):
    """As any other upload that is refused."""
    answer = upload(http, webhook_url="https://10.0.0.1/")
    assert (answer.status_code, answer.json["code"]) == (422, "refused_url")
    assert http.get("/ingestions").json["ingestions"] == []
    assert http.get("/webhooks").json["webhooks"] == []


def test_secrets_are_in_no_log_line(http, receiver, settings, database):
    """Neither those that are shown nor what may stand in a URL."""
    with capture_logs() as lines:
        made = http.post("/webhooks", json={"url": receiver.url("fail", "logged?token=hidden")}).json
        rotated = http.post(f"/webhooks/{made['id']}/rotate", json={}).json
        with couriers(settings, database):
            http.post(f"/webhooks/{made['id']}/test")
    assert {line["event"] for line in lines} >= {"webhook.created", "webhook.rotated", "webhook.given_up"}
    for hidden in (made["secret"], rotated["secret"], "hidden"):
        assert hidden not in str(lines)
