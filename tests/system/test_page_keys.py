"""The page and the elements where keys are asked for, in a real browser on a real web node; the test is the worker."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ingest_web.tokens import Token, Tokens
from shared.config import Settings
from shared.sealing import secret_of
from tests import pdfs
from tests.awaiting import wait_until
from tests.pages import a_context, bar
from tests.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One web node that asks for keys, no worker."""
    settings = {"INGEST_AUTH": "keys", "INGEST_RETRY_MS": "300"}
    with Stack(tmp_path_factory.mktemp("keys"), web=1, workers=0, settings=settings) as stack:
        yield stack


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    return Settings.from_environment(stack.environment_of_ours)


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    with a_context(browser, stack) as context:
        yield context
    wait_until(lambda: stack.streams() == 0, what="the streams of the test before are gone")


def link(settings: Settings, document_id: str, key_id: str, seconds: float = 60) -> str:
    token = Tokens(secret_of(settings)).write(Token(document_id, key_id, int(time.time() + seconds)))
    return f"/status/stream/{document_id}?token={token}"


def open_tab(context: BrowserContext, *stream_urls: str) -> Page:
    """A page of the application's own with a bar for each link; it has no key."""
    bars = "".join(f'<ingest-progress stream-url="{one}"></ingest-progress>' for one in stream_urls)
    body = f'<!doctype html><script type="module" src="/static/ingest-progress.js"></script>{bars}'
    tab = context.new_page()
    tab.route("**/host", lambda route: route.fulfill(body=body, content_type="text/html"))
    tab.goto("/host")
    return tab


def of_stream(tab: Page, document_id: str):
    return tab.locator(f"ingest-progress[stream-url*='{document_id}']")


def sign_in(page: Page, told: str) -> None:
    page.get_by_label("API key").fill(told)
    page.get_by_role("button", name="Sign in").click()


def test_with_a_key_a_document_is_uploaded_and_watched_to_its_end(context, stack, ring, key, documents):
    """The key is in headers alone, and a reload of the tab keeps it; when it is revoked the page says so."""
    page = context.new_page()
    addresses: list[str] = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto("/")
    expect(page.locator("#drop")).to_be_hidden()
    sign_in(page, f"ingest_{key[0]}_wrong")
    expect(page.locator("#key-problem")).to_contain_text("not one, or has been revoked")
    sign_in(page, key[1])
    page.locator("#choose").set_input_files([{"name": "a.pdf", "mimeType": "application/pdf", "buffer": pdfs.prose(1)}])
    card = page.locator("ingest-progress")
    expect(card).to_have_attribute("connection", "open")
    document = card.get_attribute("document-id") or ""
    documents.parse(document, 3, 9)
    expect(card).to_contain_text("Parsed 3 of 9 pages")
    page.reload()
    expect(bar(page, document)).to_contain_text("Parsed 3 of 9 pages")
    documents.complete(document)
    expect(bar(page, document)).to_have_attribute("status", "COMPLETED")
    with page.expect_download() as saved:
        bar(page, document).get_by_text("Download").click()
    assert saved.value.suggested_filename == "a.jsonl"
    running = documents.create("b.pdf")
    page.evaluate("(id) => localStorage.setItem('ingest-live.documents', JSON.stringify([id]))", running)
    page.reload()
    expect(bar(page, running)).to_have_attribute("connection", "open")
    ring.revoke(key[0])
    expect(page.locator("#key-problem")).to_contain_text("not one, or has been revoked")
    expect(page.locator("#work")).to_be_hidden()
    assert page.evaluate("sessionStorage.length") == 0
    assert any("?token=" in address for address in addresses)
    assert not any(key[1].split("_", 2)[2] in address for address in addresses)


def test_tabs_with_links_share_one_stream(context, stack, settings, key, documents):
    """Each has a link of its own, one document has two; no page has a key."""
    shared, first, second = (documents.create(f"{name}.pdf") for name in ("shared", "first", "second"))
    tabs = [
        open_tab(context, link(settings, shared, key[0], seconds), link(settings, own, key[0]))
        for own, seconds in ((first, 60), (second, 70))
    ]
    for tab in tabs:
        expect(tab.locator("ingest-progress[connection=open]")).to_have_count(2)
    wait_until(lambda: stack.streams() == 1, what="one stream is left")
    for document in (shared, first, second):
        documents.parse(document, 6, 9)
    for tab, own in zip(tabs, (first, second), strict=True):
        for document in (shared, own):
            expect(of_stream(tab, document)).to_contain_text("Parsed 6 of 9 pages")


def test_a_link_that_has_ended_says_so_and_another_one_goes_on(context, stack, settings, key, documents):
    """The host page hears of it, and may put another in its place."""
    document, other = documents.create("a.pdf"), documents.create("b.pdf")
    tab = open_tab(context, link(settings, document, key[0], 3), link(settings, other, key[0]))
    tab.evaluate("document.addEventListener('ingest-refused', ({ detail }) => (window.refused = detail.id))")
    expect(tab.locator("ingest-progress[connection=open]")).to_have_count(2)
    expect(of_stream(tab, document)).to_have_attribute("connection", "refused", timeout=10_000)
    expect(of_stream(tab, document)).to_contain_text("The link to this document has ended")
    assert tab.evaluate("window.refused") == document
    documents.parse(other, 3, 9)
    expect(of_stream(tab, other)).to_contain_text("Parsed 3 of 9 pages")
    of_stream(tab, document).evaluate("(one, url) => (one.streamUrl = url)", link(settings, document, key[0]))
    expect(of_stream(tab, document)).to_have_attribute("connection", "open")
    documents.parse(document, 6, 9)
    expect(of_stream(tab, document)).to_contain_text("Parsed 6 of 9 pages")


def test_without_a_link_nothing_is_shown(context, documents):
    """The service does not say whether there is such a document."""
    for document in (documents.create("a.pdf"), "01m857xcw5wq82xwhr9ttcn3ay"):
        tab = open_tab(context, f"/status/stream/{document}")
        expect(of_stream(tab, document)).to_contain_text("The link to this document has ended")
