"""Tabs of one browser share one stream, in a real browser on a real web node; the test is the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from tests.awaiting import wait_until
from tests.pages import Documents, a_context, a_page, assert_never_falls, bar, open_streams, remember
from tests.stack import Stack

TABS = 8

#: What a take-over may take that nobody shall notice, and one from a tab that says nothing any more.
AT_ONCE_SECONDS = 2
DEAF_SECONDS = 8


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One web node, no worker."""
    with Stack(tmp_path_factory.mktemp("tabs"), web=1, workers=0, settings={"INGEST_RETRY_MS": "300"}) as stack:
        yield stack


@pytest.fixture
def context(browser: Browser, stack: Stack) -> Iterator[BrowserContext]:
    with a_context(browser, stack) as context:
        yield context
    wait_until(lambda: stack.streams() == 0, what="the streams of the test before are gone")


@pytest.fixture(scope="module")
def blank(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page that watches nothing."""
    with a_page(browser, stack) as page:
        yield page


def open_tab(context: BrowserContext, *document_ids: str) -> Page:
    """A page of the application's own with a bar for each of the documents."""
    bars = "".join(f'<ingest-progress document-id="{one}"></ingest-progress>' for one in document_ids)
    body = f'<!doctype html><script type="module" src="/static/ingest-progress.js"></script>{bars}'
    tab = context.new_page()
    tab.route("**/host", lambda route: route.fulfill(body=body, content_type="text/html"))
    tab.goto("/host")
    return tab


def open_tabs(context: BrowserContext, count: int, document_id: str) -> list[Page]:
    """So many tabs with a bar for the same document, all connected; the first one leads."""
    tabs = [open_tab(context, document_id) for _ in range(count)]
    for tab in tabs:
        expect(bar(tab, document_id)).to_have_attribute("connection", "open")
    return tabs


def leader_of(tabs: list[Page]) -> Page:
    """The tab that holds the stream."""
    (leader,) = wait_until(lambda: [tab for tab in tabs if open_streams(tab)], what="a tab leads")
    return leader


def assert_right(tab: Page, document_id: str) -> None:
    """Nothing twice, nothing back, and from the first moment on nothing that looked like a lost connection."""
    told = tab.evaluate("(id) => window.told.filter((one) => one.id === id)", document_id)
    seqs = [state["seq"] for state in told]
    assert seqs == sorted(set(seqs))
    assert_never_falls([state["progress"] for state in told])
    shown = tab.evaluate("(id) => window.connections.filter((one) => one[0] === id).map((one) => one[1])", document_id)
    assert set(shown[shown.index("open") :]) <= {"open", "idle"}


def hang(tab: Page) -> Callable[[], None]:
    """Have a dialog hold the tab up: it hears nothing, says nothing and keeps its locks. Returns what ends that."""
    with tab.expect_event("dialog") as dialog:
        tab.evaluate("void setTimeout(alert)")
    return dialog.value.dismiss


def freeze(tab: Page) -> Callable[[], None]:
    """Do to the tab what a browser does to save memory: tell it, then stop it. Returns what wakes it up."""
    tab.evaluate("document.dispatchEvent(new Event('freeze'))")
    wake = hang(tab)

    def thaw() -> None:
        wake()
        tab.evaluate("document.dispatchEvent(new Event('resume'))")

    return thaw


def leave(tab: Page) -> None:
    tab.goto("about:blank")


def crash(tab: Page) -> None:
    with tab.expect_event("crash"), suppress(Error):
        tab.goto("chrome://crash")


def test_eight_tabs_share_one_stream(context: BrowserContext, stack: Stack, documents: Documents):
    """Each shows some documents that all have and some of its own; the server has one viewer, and all bars move."""
    shared = [documents.create(f"shared {n}.pdf") for n in range(2)]
    own = [documents.create(f"own {n}.pdf") for n in range(TABS)]
    tabs = [open_tab(context, *shared, one) for one in own]
    for tab in tabs:
        expect(tab.locator("ingest-progress[connection=open]")).to_have_count(3)
    wait_until(lambda: stack.streams() == 1, what="one stream is left")
    for done in (3, 6, 9):
        for document_id in [*shared, *own]:
            documents.parse(document_id, done, 9)
        for tab, one in zip(tabs, own, strict=True):
            for document_id in [*shared, one]:
                expect(bar(tab, document_id)).to_contain_text(f"Parsed {done} of 9 pages")
    assert stack.streams() == 1
    for document_id in [*shared, *own]:
        documents.complete(document_id)
    for tab, one in zip(tabs, own, strict=True):
        expect(tab.locator("ingest-progress[status=COMPLETED]")).to_have_count(3)
        for document_id in [*shared, one]:
            assert_right(tab, document_id)
    wait_until(lambda: stack.streams() == 0, what="nobody watches what is finished")


@pytest.mark.parametrize("goes", [Page.close, leave, crash, freeze])
def test_the_others_go_on_when_the_leader_goes(
    context: BrowserContext, documents: Documents, goes: Callable[[Page], object]
):
    """In the middle of a document, whatever happens to the tab: another takes over at once, and nobody sees it."""
    document_id = documents.create("long.pdf")
    tabs = open_tabs(context, 3, document_id)
    leader = leader_of(tabs)
    tabs.remove(leader)
    documents.parse(document_id, 3, 9)
    for tab in tabs:
        expect(bar(tab, document_id)).to_contain_text("Parsed 3 of 9 pages")
    goes(leader)
    gone_at = time.monotonic()
    documents.parse(document_id, 6, 9)
    for tab in tabs:
        expect(bar(tab, document_id)).to_contain_text("Parsed 6 of 9 pages")
    assert time.monotonic() - gone_at < AT_ONCE_SECONDS
    documents.complete(document_id)
    for tab in tabs:
        expect(bar(tab, document_id)).to_have_attribute("status", "COMPLETED")
        assert_right(tab, document_id)


@pytest.mark.parametrize(
    ("stop", "within_seconds"), [(freeze, AT_ONCE_SECONDS), (hang, DEAF_SECONDS)], ids=["frozen", "hanging"]
)
def test_a_leader_that_stops_is_replaced_and_follows_when_it_wakes_up(
    context: BrowserContext,
    stack: Stack,
    documents: Documents,
    stop: Callable[[Page], Callable[[], None]],
    within_seconds: float,
):
    """Even one that keeps its lock. Later it is up to date at once, and there is one stream."""
    document_id = documents.create("long.pdf")
    tabs = open_tabs(context, 2, document_id)
    leader = leader_of(tabs)
    (other,) = (tab for tab in tabs if tab is not leader)
    wake = stop(leader)
    documents.parse(document_id, 6, 9)
    expect(bar(other, document_id)).to_contain_text("Parsed 6 of 9 pages", timeout=1000 * within_seconds)
    wake()
    expect(bar(leader, document_id)).to_contain_text("Parsed 6 of 9 pages")
    wait_until(lambda: stack.streams() == 1, what="one stream is left")
    documents.complete(document_id)
    for tab in tabs:
        expect(bar(tab, document_id)).to_have_attribute("status", "COMPLETED")
        assert_right(tab, document_id)


def test_one_that_hangs_next_in_the_queue_leaves_nobody_deaf(context: BrowserContext, documents: Documents):
    """The lock falls to a tab that can't lead; another takes it from there."""
    document_id = documents.create("long.pdf")
    first, second, third = open_tabs(context, 3, document_id)
    hang(second)
    first.close()
    documents.parse(document_id, 6, 9)
    expect(bar(third, document_id)).to_contain_text("Parsed 6 of 9 pages", timeout=1000 * DEAF_SECONDS)
    assert_right(third, document_id)


def test_what_an_earlier_leader_still_says_moves_nothing_back(context: BrowserContext, documents: Documents):
    """It may have slept over news and over the loss of its lock; the bars and the connection stay as they are."""
    document_id = documents.create("long.pdf")
    first, second = open_tabs(context, 2, document_id)
    documents.parse(document_id, 3, 9)
    expect(bar(second, document_id)).to_contain_text("Parsed 3 of 9 pages")
    first.evaluate(
        """(state) => new BroadcastChannel(`ingest-live/1 ${new URL("/", location)}`).postMessage(
            { kind: "tell", tab: "earlier", to: null, states: [state], unknown: [], connection: "lost" })""",
        {"id": document_id, "seq": 1, "status": "FAILED", "attempt": 1, "progress": 0, "filename": "", "message": ""},
    )
    documents.parse(document_id, 6, 9)
    documents.complete(document_id)
    for tab in (first, second):
        expect(bar(tab, document_id)).to_have_attribute("status", "COMPLETED")
        assert_right(tab, document_id)


def test_a_tab_that_is_gone_is_watched_for_no_longer(context: BrowserContext, stack: Stack, documents: Documents):
    """What only a closed tab showed leaves the stream; the rest stays on it."""
    staying, leaving = documents.create("staying.pdf"), documents.create("leaving.pdf")
    tabs = [open_tab(context, staying), open_tab(context, leaving)]
    leader = leader_of(tabs[:1])
    wait_until(lambda: leaving in open_streams(leader)[0], what="both are on the stream")
    crash(tabs[1])
    wait_until(lambda: open_streams(leader)[0].endswith(f"/status/stream/{staying}"), what="one is left")


def test_tabs_without_web_locks_have_streams_of_their_own(context: BrowserContext, stack: Stack, documents: Documents):
    """Over plain HTTP a browser has none: each tab looks after itself."""
    document_id = documents.create("plain.pdf")
    tabs = [context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(stack.urls[0].replace("127.0.0.1", "plain.test"))
        assert not tab.evaluate("isSecureContext || 'locks' in navigator")
        remember(tab, document_id)
        expect(bar(tab, document_id)).to_have_attribute("connection", "open")
    assert stack.streams() == 2
    documents.parse(document_id, 3, 9)
    for tab in tabs:
        expect(bar(tab, document_id)).to_contain_text("Parsed 3 of 9 pages")
    documents.complete(document_id)
    for tab in tabs:
        expect(bar(tab, document_id)).to_have_attribute("status", "COMPLETED")
        assert_right(tab, document_id)


def test_a_lost_connection_is_lost_and_heals_in_all_tabs(context: BrowserContext, stack: Stack, documents: Documents):
    """Those that follow say so too, and miss nothing."""
    document_id = documents.create("patient.pdf")
    tabs = open_tabs(context, 2, document_id)
    stack.web[0].kill()
    for tab in tabs:
        expect(bar(tab, document_id)).to_have_attribute("connection", "lost")
    documents.parse(document_id, 6, 9)
    stack.web[0].start()
    for tab in tabs:
        expect(bar(tab, document_id)).to_have_attribute("connection", "open", timeout=30_000)
        expect(bar(tab, document_id)).to_contain_text("Parsed 6 of 9 pages")


def test_a_retry_in_one_tab_is_seen_in_all(context: BrowserContext, documents: Documents):
    """Whoever shows the document that failed shows its next attempt."""
    document_id = documents.create("second-thoughts.pdf")
    documents.fail(document_id, "Not one page could be read.")
    tabs = [context.new_page() for _ in range(3)]
    for tab in tabs:
        tab.goto("/")
        remember(tab, document_id)
        expect(bar(tab, document_id)).to_have_attribute("status", "FAILED")
    tabs[2].get_by_role("button", name="try second-thoughts.pdf again").click()
    for tab in reversed(tabs):
        expect(bar(tab, document_id)).to_have_attribute("status", "PENDING")
        expect(tab.locator("#connection")).to_have_text("Live")


def test_a_burst_of_documents_opens_few_streams(context: BrowserContext, stack: Stack, documents: Documents):
    """However fast they come, a stream is replaced at most once a second, and the bars never look lost."""
    first = documents.create("first.pdf")
    tabs = [open_tab(context, first) for _ in range(2)]
    leader = leader_of(tabs)
    began_at = time.monotonic()
    later = [documents.create(f"{n}.pdf") for n in range(40)]
    for n, document_id in enumerate(later):
        tabs[n % 2].evaluate(
            """(id) => document.body.append(
                Object.assign(document.createElement('ingest-progress'), { documentId: id }))""",
            document_id,
        )
    wait_until(lambda: all(one in open_streams(leader)[0] for one in later), what="all are on the stream")
    opened = leader.evaluate("window.sources.length")
    assert opened <= 3 + time.monotonic() - began_at
    assert stack.streams() == 1
    for document_id in [first, *later]:
        documents.complete(document_id)
    for tab in tabs:
        expect(tab.locator("ingest-progress[status=COMPLETED]")).to_have_count(21)


def test_more_documents_than_a_stream_carries_take_one_more(
    context: BrowserContext, stack: Stack, documents: Documents
):
    """510 documents, two streams, whichever tab shows them."""
    there = [documents.create(f"{n}.pdf") for n in range(510)]
    open_tab(context, *there[:255])
    second = open_tab(context, *there[255:])
    wait_until(lambda: stack.streams() == 2, what="two streams are open")
    documents.parse(there[-1], 3, 9)
    expect(bar(second, there[-1])).to_contain_text("Parsed 3 of 9 pages")


@pytest.mark.parametrize(
    ("call", "answer"),
    [
        ("union([]).live", []),
        ("union([wants(['a', 'b'], []), wants(['b'], ['a', 'c'])]).unchecked", ["b"]),
        ("union([wants(['a', 'b'], []), wants(['b'], ['a', 'c'])]).live", ["a", "c"]),
        ("union([wants([], ['a'], {a: 'a.k.ff.s'}), wants([], ['a'], {a: 'a.k.100.s'})]).tokens.get('a')", "a.k.100.s"),
        ("union([wants([], ['a'], {a: 'a.k.ff.s'}), wants([], ['a'])]).tokens.get('a')", "a.k.ff.s"),
        ("isSame(wants(['a'], ['b', 'c']), wants(['a'], ['c', 'b']))", True),
        ("isSame(wants(['a'], []), wants([], ['a']))", False),
        ("isSame(wants(['a'], [], {a: 't'}), wants(['a'], [], {a: 'u'}))", False),
        ("sameIds(['a', 'b'], ['a', 'c'])", False),
        ("spread([], [], 2)", []),
        ("spread([], ['a', 'b', 'c'], 2)", [["a", "b"], ["c"]]),
        ("spread([['a', 'b'], ['c']], ['b', 'c', 'd', 'e', 'f'], 2)", [["b", "d"], ["c", "e"], ["f"]]),
        ("spread([['a'], ['b', 'c']], ['c', 'b'], 2)", [[], ["b", "c"]]),
    ],
)
def test_what_tabs_want_is_spread_over_few_streams(blank: Page, call: str, answer: object):
    """The pure part, as a table: who is on a stream stays there, newcomers fill it up."""
    wants = "(unchecked, live, tokens = {}) => ({ unchecked, live, tokens: new Map(Object.entries(tokens)) })"
    module = "await import('/static/ingest-union.js')"
    assert (
        blank.evaluate(f"(async () => {{ with ({module}) {{ const wants = {wants}; return {call}; }} }})()") == answer
    )
