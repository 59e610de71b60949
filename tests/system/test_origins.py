"""Pages of other origins, in a real browser on a real web node: one that is allowed, and one that is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from shared.store import Store
from tests.awaiting import wait_until
from tests.pages import Documents, bar, remember
from tests.records import finish, new_document
from tests.stack import Stack

WATCH_POLICY = (
    "violations = []; document.addEventListener('securitypolicyviolation', (e) => violations.push(e.blockedURI))"
)


class Sites(NamedTuple):
    """Two web servers that are not the service; each answers every path with the ``html`` that it was given."""

    allowed: ThreadingHTTPServer
    other: ThreadingHTTPServer


class Site(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.server.html.encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def a_site() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def origin_of(site: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{site.server_port}"


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    with ExitStack() as both:
        yield Sites(both.enter_context(a_site()), both.enter_context(a_site()))


@pytest.fixture(scope="module")
def stack(sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One web node, no worker."""
    settings = {"INGEST_ALLOWED_ORIGINS": origin_of(sites.allowed), "INGEST_RETRY_MS": "300"}
    with Stack(tmp_path_factory.mktemp("origins"), web=1, workers=0, settings=settings) as stack:
        yield stack


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a browser that was never here before, and that complains of nothing here."""
    with closing(browser.new_context()) as context:
        yield context.new_page()


def embed(page: Page, site: ThreadingHTTPServer, service: str, document_id: str) -> None:
    """A page of the site with a bar of the service."""
    site.html = f"""<!doctype html><link rel="icon" href="data:,">
        <script type="module" src="{service}/static/ingest-progress.js"></script>
        <ingest-progress document-id="{document_id}" server="{service}"></ingest-progress>"""  # type: ignore[attr-defined]
    page.goto(origin_of(site))


def test_a_page_of_an_allowed_origin_shows_a_bar(page: Page, sites, stack: Stack, documents: Documents):
    """Module, state and stream come from the service, also after its restart.

    A browser would refuse them if they were asked for with credentials, which no answer allows.
    """
    document_id = documents.create("abroad.pdf")
    embed(page, sites.allowed, stack.urls[0], document_id)
    expect(bar(page, document_id)).to_have_attribute("connection", "open")
    documents.parse(document_id, 3, 10)
    expect(bar(page, document_id)).to_contain_text("Parsed 3 of 10 pages")
    stack.web[0].kill()
    expect(bar(page, document_id)).to_have_attribute("connection", "lost")
    documents.complete(document_id)
    stack.web[0].start()
    expect(bar(page, document_id)).to_have_attribute("status", "COMPLETED", timeout=30_000)


def test_a_page_of_another_origin_gets_nothing(page: Page, sites, stack: Stack, documents: Documents):
    """Not the module, not the state, not the stream."""
    document_id = documents.create("at-home.pdf")
    with page.expect_console_message(lambda message: "blocked by CORS policy" in message.text):
        embed(page, sites.other, stack.urls[0], document_id)
    assert not page.evaluate("!!customElements.get('ingest-progress')")
    for path in (f"/status/{document_id}", f"/status/stream/{document_id}", "/static/ingest-progress.js"):
        asked = "(url) => fetch(url).then((answer) => answer.text(), (error) => error.name)"
        assert page.evaluate(asked, stack.urls[0] + path) == "TypeError"


@pytest.mark.parametrize("kind", ["allowed", "other", None])
def test_a_stream_past_flask_says_whose_it_is(sites, stack: Stack, store: Store, document: str, kind):
    """The head of a stream that goes on, and the 204 at its end."""
    headers = {"Origin": origin_of(getattr(sites, kind))} if kind else {}
    told = headers["Origin"] if kind == "allowed" else None
    address = f"{stack.urls[0]}/status/stream/{document}"
    with httpx.stream("GET", address, headers=headers) as going_on:
        assert going_on.headers["Connection"] == "close"  # so it is a stream whose socket was taken
        of_stream = going_on.headers
    finish(store, document)
    ended = httpx.get(address, headers={**headers, "Last-Event-ID": "2"})
    assert ended.status_code == 204
    for answered in (of_stream, ended.headers):
        assert answered.get("Access-Control-Allow-Origin") == told
        assert ("Access-Control-Expose-Headers" in answered) == bool(told)
        assert answered["Vary"] == "Origin"
        assert answered["X-Content-Type-Options"] == "nosniff"


def test_a_stream_that_is_put_off_can_be_read_too(sites, tmp_path):
    """With every seat taken, the empty stream that asks to come back is for the allowed origin as well."""
    origin = origin_of(sites.allowed)
    settings = {"INGEST_ALLOWED_ORIGINS": origin, "INGEST_MAX_STREAMS": "1"}
    with Stack(tmp_path, web=1, workers=0, settings=settings) as stack, closing(stack.open_store()) as store:
        address = f"{stack.urls[0]}/status/stream/{new_document(store)}"
        with httpx.stream("GET", address):
            put_off = httpx.get(address, headers={"Origin": origin})
    assert b"retry: " in put_off.content
    assert b"event: " not in put_off.content
    assert put_off.headers["Access-Control-Allow-Origin"] == origin


def test_the_page_keeps_to_its_policy(page: Page, stack: Stack, documents: Documents):
    """An upload, a bar to its end and its chunks break no rule; a script that got into the page would."""
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(stack.urls[0])
    page.evaluate(WATCH_POLICY)
    page.locator("#choose").set_input_files(
        {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7\n" + bytes(5000)}
    )
    uploaded = page.locator("ingest-progress[status=PENDING]")
    expect(uploaded).to_have_attribute("connection", "open")
    document_id = uploaded.get_attribute("document-id") or ""
    documents.parse(document_id, 3, 10)
    expect(bar(page, document_id)).to_contain_text("Parsed 3 of 10 pages")
    documents.complete(document_id)
    of_chunks = f"{stack.urls[0]}/ingestions/{document_id}/chunks"
    with page.context.expect_event("response", lambda response: response.url == of_chunks) as chunks:
        bar(page, document_id).get_by_text("Open chunks").click()
    assert chunks.value.status == 200
    assert "referer" not in chunks.value.request.headers
    remember(page, document_id)
    expect(bar(page, document_id)).to_have_attribute("status", "COMPLETED")
    assert complaints == []
    page.evaluate(WATCH_POLICY)
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"ran = 1\"><b style=\"top:0\">')")
    wait_until(lambda: set(page.evaluate("violations")) == {"inline"}, what="the inline handler and style are refused")
    assert page.evaluate("typeof ran") == "undefined"
