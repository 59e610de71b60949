"""Uploads: everything or nothing, and a clear answer."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import socket
import tempfile
import tracemalloc
from pathlib import Path

import httpx
import pytest
import redis

from ingest_web import forms, services
from ingest_web.pubsub import PONG, Message, PubSub
from shared import connections, keys, task_names
from shared.sealing import Seal
from shared.storage import source_path
from shared.worklist import Worklist
from tests import valkey
from tests.awaiting import wait_until
from tests.records import complete

HALF = b'Content-Disposition: form-data; name="file"; filename="a.pdf"\r\n\r\n%PDF-'
PDF = b"%PDF-1.7\n" + b"x" * 5000


def send(http, data: bytes, name: str = "a.pdf", **fields: str):
    request = httpx.Request("POST", "http://x/", data=fields, files={"file": (name, data)})
    return http.post("/ingestions", data=request.read(), content_type=request.headers["Content-Type"])


def stored(settings) -> list[str]:
    root = Path(settings.storage_url)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_upload_is_accepted_with_its_links(http, store, settings):
    """202, where to look, and the bytes in storage with their hash on record."""
    answer = send(http, PDF, "../report.pdf", chunk_size="500")
    body = answer.json
    assert (answer.status_code, body["status"]) == (202, "PENDING")
    assert answer.headers["Location"] == body["links"]["status"] == f"/status/{body['id']}"
    assert body["links"]["stream"] == f"/status/stream/{body['id']}"
    assert http.get(body["links"]["status"]).json["filename"] == "report.pdf"
    source = store.source(body["id"])
    assert source.sha256 == hashlib.sha256(PDF).hexdigest()
    assert (source.size_bytes, source.options.chunk_size, source.options.chunk_overlap) == (len(PDF), 500, 100)
    assert stored(settings) == [source_path(body["id"])]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        (b'an \\"evil\\" name.pdf', 202),
        (b"a\r\nSet-Cookie: evil=1\r\n.pdf", 400),
        (b"a\nevil: 1.pdf", 202),
        (b"../../evil/../evil.pdf", 202),
        (b"..\\..\\evil.pdf", 202),
        (b"/evil", 202),
        (b"..", 202),
        ("a\u202efdp.evil.pdf".encode(), 202),
        (b"<img src=x onerror=evil()>.pdf", 202),
        (b"evil" * 1000, 202),
        (b"evil\xff\xfe\xc0.pdf", 400),
        (b"evil\x00.pdf", 202),
    ],
)
def test_a_file_name_reaches_neither_a_path_nor_a_header(http, settings, client, name, status):
    """Whatever a stranger calls a file: storage and headers know its id alone, and the state one short line."""
    disposition = b'Content-Disposition: form-data; name="file"; filename="%b"' % name
    body = b"--x\r\n%b\r\n\r\n%b\r\n--x--\r\n" % (disposition, PDF)
    answer = http.post("/ingestions", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == status
    answers = [answer]
    if status == 202:
        document_id = answer.json["id"]
        assert stored(settings) == [source_path(document_id)]
        paths = [f"/status/{document_id}", "/ingestions", f"/ingestions/{document_id}/chunks"]
        answers += [http.get(path) for path in paths]
        shown = answers[1].json["filename"]
        assert shown.isprintable()
        assert 0 < len(shown) <= 255
        assert not set(shown) & set("/\\")
    else:
        assert (stored(settings), client.keys("*")) == ([], [])
    for one in answers:
        assert "evil" not in str(one.headers)
        assert "Set-Cookie" not in one.headers
        assert b"<img" not in one.data or one.content_type.startswith("application/")


def test_a_worker_is_called_and_told_nothing(http, client):
    """The message names the task; which document, and everything of it, is in the record alone."""
    document_id = send(http, PDF).json["id"]
    [message] = client.lrange(keys.BROKER_PREFIX + task_names.QUEUE, 0, -1)
    assert task_names.WORK.encode() in message
    assert document_id.encode() not in message


@pytest.mark.parametrize(
    ("data", "name", "fields", "status", "code"),
    [
        (b"PK\x03\x04 not a pdf" * 100, "report.pdf", {}, 415, "unsupported_media_type"),
        (b"\x00short", "report.pdf", {}, 415, "unsupported_media_type"),
        (b"", "report.pdf", {}, 422, "empty_file"),
        (PDF, "a.pdf", {"chunk_size": "1"}, 422, "invalid_option"),
        (PDF, "a.pdf", {"chunk_overlap": "1000"}, 422, "invalid_option"),
        (PDF, "a.pdf", {"engine": "magic"}, 422, "invalid_option"),
        (PDF, "a.pdf", {"colour": "green"}, 422, "invalid_option"),
        (b"%PDF-1.7\n" + b"x" * 2_000_000, "a.pdf", {}, 413, "too_large"),
        (b"%PDF-1.7\n" + b"x" * 1_000_000, "a.pdf", {}, 413, "too_large"),
    ],
)
def test_bad_input_gets_a_clear_answer_and_leaves_nothing(make_app, settings, client, data, name, fields, status, code):
    """A problem document with a stable code; no file, no key, no task."""
    app = make_app(max_upload_bytes=999_990)
    answer = send(app.test_client(), data, name, **fields)
    assert (answer.status_code, answer.json["code"], answer.json["status"]) == (status, code, status)
    assert answer.content_type == "application/problem+json"
    assert answer.json["title"]
    assert answer.json["detail"]
    assert stored(settings) == []
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"", None, "file_missing"),
        (b"{}", "application/json", "file_missing"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", "file_missing"),
        (b"garbage", "multipart/form-data; boundary=x", "upload_interrupted"),
        (b"--x\r\n" + HALF, "multipart/form-data; boundary=x", "upload_interrupted"),
    ],
)
def test_a_request_without_a_whole_file_is_a_400(http, settings, client, body, content_type, code):
    """What is missing is said; nothing is left behind."""
    answer = http.post("/ingestions", data=body, content_type=content_type)
    assert (answer.status_code, answer.json["code"]) == (400, code)
    assert stored(settings) == []
    assert client.keys("*") == []


MEBIBYTE = 1024 * 1024


def nested(depth: int) -> bytes:
    """A body whose first part claims to be such a body itself, and so on."""
    return b"".join(b"--x%d\r\nContent-Type: multipart/mixed; boundary=x%d\r\n\r\n" % (n, n + 1) for n in range(depth))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 100_000, {}),
        (b"--x\r\nContent-Disposition: form-data; name=" + b"a" * (8 * MEBIBYTE), {}),
        (b"--x\r\n" + b"X: y\r\n" * MEBIBYTE, {}),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + b"1" * (8 * MEBIBYTE), {}),
        (nested(100_000).replace(b"--x0", b"--x", 1), {}),
        (b"\r\n" * (4 * MEBIBYTE), {}),
        (gzip.compress(b"--x\r\n" + HALF + b"x" * (64 * MEBIBYTE)), {"Content-Encoding": "gzip"}),
    ],
    ids=["parts", "a long header", "headers", "a long field", "boundaries", "no boundary", "gzip"],
)
def test_a_multipart_bomb_is_refused_before_it_is_held(http, settings, body, headers):
    """Some pieces of it are read, and never is more than that in memory."""
    stream = io.BytesIO(body)
    announced = {"CONTENT_TYPE": "multipart/form-data; boundary=x", "CONTENT_LENGTH": str(len(body))}
    tracemalloc.start()
    answer = http.post("/ingestions", headers=headers, environ_overrides={**announced, "wsgi.input": stream})
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 400 <= answer.status_code < 500
    assert stream.tell() <= 4 * forms.PIECE_BYTES
    assert peak_bytes < 2 * MEBIBYTE
    assert stored(settings) == []


def test_a_pdf_is_known_by_its_content(http):
    """Whatever the name says, and with some bytes in front of the header, as viewers allow."""
    assert send(http, b"\xef\xbb\xbf\n" + PDF, "holiday.jpg").status_code == 202


def test_without_redis_an_upload_is_refused_for_now(make_app, settings, tmp_path):
    """503 with Retry-After, and nothing half-created."""
    app = make_app(redis_url=f"unix://{tmp_path}/gone.sock")
    answer = send(app.test_client(), PDF)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert stored(settings) == []


def test_an_upload_that_redis_has_no_room_for_is_refused_for_now(http, client, settings):
    """503 with Retry-After before it is taken in, and nothing half-created; what is there is answered as ever."""
    known = send(http, PDF).json["id"]
    before = stored(settings), client.keys("*")
    with valkey.full(client):
        answer = send(http, b"%PDF-1.4 another")
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
        assert int(answer.headers["Retry-After"]) > 0
        assert http.get(f"/status/{known}").status_code == 200
        assert http.get("/readyz").status_code == 200  # all nodes would turn away those who only look
    assert (stored(settings), client.keys("*")) == before
    assert send(http, b"%PDF-1.4 another").status_code == 202


def test_a_redis_with_a_full_disk_answers_whoever_looks_and_takes_no_upload(make_app, settings):
    """It can't save, so it refuses to write, and PING: nodes are ready all the same, and none of them connects anew."""
    with tempfile.TemporaryDirectory(prefix="ingest-test-") as name:
        folder, disk = Path(name), Path(name) / "disk"
        disk.mkdir()
        with valkey.server(disk, folder / "v.sock", config={"loglevel": "warning", "save": "3600 1"}):
            app = make_app(redis_url=f"unix://{folder}/v.sock?db=0")
            http = app.test_client()
            known = send(http, PDF).json["id"]
            shutil.rmtree(disk)
            with redis.Redis(unix_socket_path=f"{folder}/v.sock") as client:
                client.bgsave()
                wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", what="it fails")
            before = stored(settings)
            answer = send(http, b"%PDF-1.4 another")
            assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
            assert stored(settings) == before
            assert http.get(f"/status/{known}").status_code == 200
            assert http.get("/readyz").status_code == 200
            pubsub = PubSub(connections.pubsub_connection(services.of(app).settings), 1.0)
            pubsub.send("SUBSCRIBE", "channel")
            pubsub.send("PING")
            heard: list[Message] = []
            wait_until(lambda: (heard.extend(pubsub.receive()), len(heard) == 2)[1], what="both answers")
            assert heard == [[b"subscribe", b"channel", 1], PONG]
            pubsub.close()


def test_without_a_broker_an_upload_is_taken_all_the_same(make_app, settings, client):
    """The record says that there is work; workers look there when the broker is back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    app = make_app(broker_url=f"redis://127.0.0.1:{port}/0")
    answer = send(app.test_client(), PDF)
    assert answer.status_code == 202
    assert Worklist(client, settings).claim().document_id == answer.json["id"]


def test_the_list_shows_the_newest_first_page_by_page(http):
    """Every document is on exactly one page."""
    sent = [send(http, PDF, f"{n}.pdf").json["id"] for n in range(5)]
    first = http.get("/ingestions?limit=3").json
    second = http.get(first["next"]).json
    listed = [item["id"] for item in first["ingestions"] + second["ingestions"]]
    assert listed == sorted(sent, reverse=True)
    assert second["next"] is None
    for limit in ("0", "1" * 5000):
        refused = http.get(f"/ingestions?limit={limit}")
        assert (refused.status_code, refused.json["code"]) == (422, "invalid_option")


@pytest.mark.parametrize("path", ["/status/", "/status/stream/", "/ingestions/{}/chunks"])
@pytest.mark.parametrize("document_id", ["0" * 26, "nonsense", "..%2f..%2fetc", "0" * 25 + "*"])
def test_an_unknown_id_is_a_404_everywhere(http, path, document_id):
    """Whether an id was never given or has expired, the answer is the same."""
    answer = http.get(path.format(document_id) if "{}" in path else path + document_id)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"


def test_the_result_is_not_ready_before_the_end(http):
    """409 with the state, not an empty result."""
    document_id = send(http, PDF).json["id"]
    answer = http.get(f"/ingestions/{document_id}/chunks")
    assert (answer.status_code, answer.json["code"], answer.json["state"]) == (409, "not_ready", "PENDING")


def test_a_running_document_is_cancelled_and_then_removed(http, client):
    """DELETE stops what runs and answers its state; once more, and nobody finds it any more."""
    document_id = send(http, PDF).json["id"]
    answer = http.delete(f"/ingestions/{document_id}")
    assert (answer.status_code, answer.json["status"]) == (200, "CANCELLED")
    assert answer.data == http.get(f"/status/{document_id}").data
    assert http.delete(f"/ingestions/{document_id}").status_code == 204
    assert http.get(f"/status/{document_id}").status_code == 404
    assert client.keys("ingest:{*") == [keys.outbox(document_id).encode()]  # webhooks are still to hear of it


def test_a_cancelled_document_can_be_tried_again(http, client):
    """The next attempt waits in the broker; a running document can't be started twice."""
    document_id = send(http, PDF).json["id"]
    assert http.post(f"/ingestions/{document_id}/retry").json["code"] == "not_retryable"
    http.delete(f"/ingestions/{document_id}")
    answer = http.post(f"/ingestions/{document_id}/retry")
    assert (answer.status_code, answer.json["status"], answer.json["attempt"]) == (202, "PENDING", 2)
    assert client.llen(keys.BROKER_PREFIX + task_names.QUEUE) == 2


def test_a_form_that_is_too_long_or_broken_is_refused(http):
    """Neither is it read whole into memory, nor is the password in it lost in silence."""
    document_id = send(http, PDF).json["id"]
    http.delete(f"/ingestions/{document_id}")
    path = f"/ingestions/{document_id}/retry"
    for environ in ({}, {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""}):  # announced, and sent in pieces
        answer = http.post(path, data={"password": "x" * 100_000}, environ_overrides=environ)
        assert (answer.status_code, answer.json["code"]) == (413, "request_entity_too_large")
    part = b"--x\r\nContent-Disposition: form-data; name=password\r\n\r\nsecret"
    for broken in (
        part,
        b"no boundary",
        b"--x\r\nsecret--x--\r\n",
        part + b"--x--\r\n",
        b"--x\r\n\r\nsecret\r\n--x--\r\n",
    ):
        answer = http.post(path, data=broken, content_type="multipart/form-data; boundary=x")
        assert (answer.status_code, answer.json["code"]) == (400, "malformed_upload")
    whole = http.post(path, data={"password": "x"}, content_type="multipart/form-data")
    assert whole.status_code == 202


def test_an_upload_that_never_comes_to_its_file_ends(make_app):
    """Bytes before the first boundary are bytes, too."""
    http = make_app(max_upload_bytes=1000).test_client()
    answer = http.post(
        "/ingestions",
        content_type="multipart/form-data; boundary=x",
        environ_overrides={"wsgi.input": Endless(), "wsgi.input_terminated": True},
    )
    assert (answer.status_code, answer.json["code"]) in {(400, "malformed_upload"), (413, "request_entity_too_large")}


class Endless(io.RawIOBase):
    """A body without an end."""

    def readable(self):
        return True

    def readinto(self, buffer):
        buffer[:] = b"." * len(buffer)
        return len(buffer)


def test_errors_of_routing_are_problems_too(http):
    """No HTML comes out of a wrong path or method."""
    for answer, status in ((http.get("/nowhere"), 404), (http.delete("/livez"), 405)):
        assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    assert "GET" in http.delete("/livez").headers["Allow"]
    assert http.get("/static//page.css").status_code == 404


def test_an_unexpected_error_shows_nothing_of_the_inside(http, app, monkeypatch):
    """500, a code, and no trace."""
    monkeypatch.setattr(services.of(app), "store", None)
    answer = http.get("/status/" + "0" * 26)
    assert (answer.status_code, answer.json["code"]) == (500, "internal")
    assert b"Traceback" not in answer.data
    assert b"NoneType" not in answer.data


def test_the_same_bytes_with_the_same_options_get_the_earlier_result(http, store, settings):
    """At once: 200 with the id of the document that is there, and nothing new is stored."""
    first = send(http, PDF).json
    assert (first["reused"], send(http, PDF).status_code) == (False, 202)
    complete(store, first["id"])
    before = stored(settings)
    again = send(http, PDF, "another name.pdf")
    assert again.status_code == 200
    assert again.json == {**first, "status": "COMPLETED", "reused": True}
    assert again.headers["Location"] == first["links"]["status"]
    assert stored(settings) == before


def test_the_same_bytes_read_as_another_type_are_another_document(http, store):
    """Markdown has headings and tables where plain text has lines."""
    first = send(http, b"# Head\n\nText.\n", "notes.txt").json
    complete(store, first["id"])
    again = send(http, b"# Head\n\nText.\n", "notes.md")
    assert (again.status_code, again.json["reused"]) == (202, False)


@pytest.mark.parametrize(
    ("data", "fields"),
    [(PDF + b"\n", {}), (PDF, {"chunk_size": "500"}), (PDF, {"reuse": "false"}), (PDF, {"password": "x"})],
    ids=["other bytes", "other options", "refused", "with a password"],
)
def test_another_upload_is_ingested_anew(http, store, data, fields):
    """Whatever may change the result, or the uploader's wish."""
    document_id = send(http, PDF).json["id"]
    complete(store, document_id)
    answer = send(http, data, **fields)
    assert answer.status_code == 202
    assert answer.json["id"] != document_id


def test_a_result_that_was_deleted_is_not_given(http, store):
    """Nor is one that expired."""
    document_id = send(http, PDF).json["id"]
    complete(store, document_id)
    assert http.delete(f"/ingestions/{document_id}").status_code == 204
    assert send(http, PDF).status_code == 202


def test_a_setting_can_switch_reuse_off(make_app, store):
    """And then an upload can ask for it."""
    http = make_app(reuse=False).test_client()
    document_id = send(http, PDF).json["id"]
    complete(store, document_id)
    assert send(http, PDF).status_code == 202
    assert send(http, PDF, reuse="true").json["id"] == document_id


def test_a_password_is_nowhere_in_the_clear(http, client, store, settings, caplog):
    """Not in Redis, not in the answer, not in the log; and when the document is final it is gone altogether."""
    caplog.set_level("DEBUG")
    answer = send(http, PDF, password="correct horse")
    document_id = answer.json["id"]
    dump = b"".join(client.dump(key) for key in client.keys("*"))
    for place in (dump, answer.data, caplog.text.encode(), http.get(f"/status/{document_id}").data):
        assert b"correct" not in place
    sealed = store.source(document_id).sealed_password
    assert Seal(settings).open(sealed) == "correct horse"
    http.delete(f"/ingestions/{document_id}")
    assert store.source(document_id).sealed_password == ""
    http.post(f"/ingestions/{document_id}/retry", data={"password": "another"})
    assert Seal(settings).open(store.source(document_id).sealed_password) == "another"
