"""Pages in a real browser: what a page is made to note of itself, and the worker's part, played by a test."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, sync_playwright

from ingest_web import ids
from shared.jobs import Status, overall_progress
from shared.options import Options
from shared.protocol import Failure, Notice, Stage
from shared.source import Source
from shared.store import Store
from tests.browser import HOW_TO, find_chromium, must_be_there
from tests.stack import Stack

CHROMIUM_ARGS = [
    "--no-sandbox",  # which Chromium refuses to have as root
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
    "--host-resolver-rules=MAP plain.test 127.0.0.1",  # this machine under a name that is not taken for safe
]

# Notes what every bar shows on every frame: where it is, and the value reported last, both in percent. A tab in the
# background may have no frames: so it also notes all states that were told, and all changes of a connection. And it
# keeps all EventSources, to see how many are open.
RECORDER = """
window.frames = [];
window.told = [];
window.connections = [];
window.sources = [];
window.EventSource = class extends EventSource {
  constructor(...args) { super(...args); window.sources.push(this); }
};
document.addEventListener("ingest-state", ({ detail: state }) => window.told.push(state));
new MutationObserver((changes) => {
  for (const { target } of changes) window.connections.push([target.documentId, target.getAttribute("connection")]);
}).observe(document, { subtree: true, attributeFilter: ["connection"] });
const note = () => {
  for (const element of document.querySelectorAll("ingest-progress")) {
    const bar = element.shadowRoot?.querySelector(".bar");
    if (!bar || !element.state) continue;
    const track = bar.parentElement.getBoundingClientRect();
    const shown = 100 * (bar.getBoundingClientRect().right - track.left) / track.width;
    const reported = Number(bar.parentElement.ariaValueNow);
    window.frames.push({ id: element.documentId, status: element.state.status, shown, reported });
  }
  requestAnimationFrame(note);
};
requestAnimationFrame(note);
"""


@contextmanager
def a_browser() -> Iterator[Browser]:
    """Chromium. Without one the test is skipped, or fails where a skip would be no gate."""
    path = find_chromium()
    if path is None and must_be_there():
        pytest.fail(HOW_TO)
    if path is None:
        pytest.skip(HOW_TO)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield browser
        browser.close()


@contextmanager
def a_context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    """A browser that was never here before. No script fails in its pages, and the content policy holds."""
    context = browser.new_context(base_url=stack.urls[0], color_scheme="light", viewport={"width": 1000, "height": 900})
    context.add_init_script(RECORDER)
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("console", lambda message: complaints.append(message.text) if is_complaint(message) else None)
    yield context
    context.close()
    assert complaints == []


@contextmanager
def a_page(browser: Browser, stack: Stack) -> Iterator[Page]:
    """The page as someone sees it for the first time."""
    with a_context(browser, stack) as context:
        page = context.new_page()
        page.goto("/")
        yield page


def is_complaint(message: ConsoleMessage) -> bool:
    """Whether something is wrong with the page; answers that are errors are what some tests are about."""
    return message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource")


class Documents:
    """The worker's part, played by a test."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, filename: str) -> str:
        document_id = ids.new_id()
        options = Options(chunk_size=1000, chunk_overlap=100)
        self._store.create(document_id, Source(filename, "application/pdf", 7, "ab" * 32, "d/source", options))
        return document_id

    def parse(self, document_id: str, done: int, total: int) -> None:
        self._store.record(
            document_id,
            1,
            Status.PARSING,
            f"Parsed {done} of {total} pages",
            progress=overall_progress(Status.PARSING, done, total),
            stage=Stage(done, total, "pages"),
            eta_seconds=(total - done) / 2,
        )

    def complete(self, document_id: str, *warnings: Notice) -> None:
        self._store.record(document_id, 1, Status.PARSING, "Parsed 9 of 9 pages", progress=90)
        self._store.record(document_id, 1, Status.CHUNKING, "Split 9 of 9 pages", progress=94)
        self._store.record(document_id, 1, Status.LOADING, "Saving", progress=94)
        self._store.record(document_id, 1, Status.COMPLETED, "42 chunks", progress=100, warnings=warnings)

    def fail(self, document_id: str, reason: str, code: str = "unreadable") -> None:
        self._store.record(document_id, 1, Status.FAILED, "Failed", error=Failure(code, reason))

    def has_password(self, document_id: str) -> bool:
        return bool(self._store.source(document_id).sealed_password)


def remember(page: Page, *document_ids: str) -> None:
    """Have the page find these in its memory."""
    page.evaluate("(ids) => localStorage.setItem('ingest-live.documents', ids)", json.dumps(document_ids))
    page.reload()


def bar(page: Page, document_id: str) -> Locator:
    return page.locator(f"ingest-progress[document-id='{document_id}']")


def open_streams(page: Page) -> list[str]:
    return page.evaluate("window.sources.filter((one) => one.readyState !== EventSource.CLOSED).map((one) => one.url)")


def frames(page: Page, document_id: str) -> list[dict[str, Any]]:
    return page.evaluate("(id) => window.frames.filter((frame) => frame.id === id)", document_id)


def assert_never_falls(values: list[float]) -> None:
    assert all(later >= earlier - 0.01 for earlier, later in itertools.pairwise(values)), values
