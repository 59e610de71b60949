"""The page and the custom element in a real browser, on a real web node.

In most tests the test is the worker: it records what a worker would, so that it knows what the bar must show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from ingest_web import ids
from shared.jobs import Status, overall_progress
from shared.protocol import Notice
from tests import pdfs
from tests.awaiting import wait_until
from tests.pages import Documents, a_page, assert_never_falls, bar, frames, open_streams, remember
from tests.stack import ROOT, Stack

ARTIFACTS = ROOT / "test-artifacts"

MAX_UPLOAD_BYTES = 3_000_000
HEAL_SECONDS = 30


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One web node, no worker."""
    settings = {"INGEST_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES), "INGEST_RETRY_MS": "300"}
    with Stack(tmp_path_factory.mktemp("page"), web=1, workers=0, settings=settings) as stack:
        yield stack


@pytest.fixture
def page(browser: Browser, stack: Stack) -> Iterator[Page]:
    with a_page(browser, stack) as page:
        yield page


@pytest.fixture(scope="module")
def blank(browser: Browser, stack: Stack) -> Iterator[Page]:
    """A page that watches nothing."""
    with a_page(browser, stack) as page:
        yield page


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    page.locator("#choose").set_input_files(
        [{"name": name, "mimeType": "application/pdf", "buffer": data} for name, data in files]
    )


def drop(page: Page, *files: tuple[str, bytes]) -> None:
    """Let go of files over the page."""
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const [name, bytes] of files) transfer.items.add(new File([bytes], name));
            return transfer;
        }""",
        [[name, data.decode("latin-1")] for name, data in files],
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": transfer})
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def names(page: Page) -> list[str]:
    return page.locator("ingest-progress .filename, .file .name").all_text_contents()


def test_files_that_are_dropped_are_watched_until_they_are_done(browser: Browser, tmp_path: Path):
    """Every dropped file gets a bar, which never falls, is full only at the end, and leads to the chunks."""
    with Stack(tmp_path, web=1, workers=1) as stack, a_page(browser, stack) as page:
        drop(page, *((f"report {n}.pdf", pdfs.prose(20 * n)) for n in (1, 2, 3)))
        expect(page.locator("ingest-progress[status=COMPLETED]")).to_have_count(3, timeout=60_000)
        for n in (1, 2, 3):
            element = page.locator("ingest-progress", has_text=f"report {n}.pdf")
            expect(element.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
            seen = frames(page, element.get_attribute("document-id") or "")
            assert_never_falls([frame["reported"] for frame in seen])
            assert_never_falls([frame["shown"] for frame in seen])
            assert all(frame["shown"] < 100 for frame in seen if frame["status"] != "COMPLETED")
            address = element.get_by_text("Open chunks").get_attribute("href")
            first = page.request.get(address or "").text().splitlines()[0]
            assert json.loads(first)["page_first"] == 1


def test_a_bar_moves_smoothly_and_never_ahead_of_the_truth(page: Page, documents: Documents):
    """Between two events the bar is on its way: many steps, none of them back, none beyond what was reported."""
    document_id = documents.create("smooth.pdf")
    remember(page, document_id)
    reports = 12
    for done in range(1, reports + 1):
        documents.parse(document_id, done, 15)
        reported = int(overall_progress(Status.PARSING, done, 15))
        wait_until(lambda at=reported: sum(frame["reported"] == at for frame in frames(page, document_id)) > 4)
    documents.complete(document_id)
    wait_until(lambda: frames(page, document_id)[-1]["shown"] > 99.99)
    seen = frames(page, document_id)
    assert len({round(frame["shown"], 1) for frame in seen}) > 3 * reports
    assert_never_falls([frame["shown"] for frame in seen])
    assert all(frame["shown"] <= frame["reported"] + 1 for frame in seen)


def test_a_reload_keeps_the_cards_in_order(page: Page, documents: Documents):
    """Running, done with warnings, and failed: all are there again, newest first, as they were."""
    running, done, failed = (documents.create(f"{name}.pdf") for name in ("running", "done", "failed"))
    documents.parse(running, 3, 10)
    documents.complete(done, Notice("needs_ocr", "No text on some pages", (3, 4, 5, 9)))
    documents.fail(failed, "Not one page could be read.")
    remember(page, failed, done, running)
    for _ in range(2):
        expect(bar(page, running)).to_have_attribute("connection", "open")
        assert names(page) == ["failed.pdf", "done.pdf", "running.pdf"]
        expect(bar(page, running)).to_contain_text("Parsed 3 of 10 pages")
        expect(bar(page, running).get_by_role("progressbar", name="running.pdf")).to_have_attribute(
            "aria-valuenow", "27"
        )
        expect(bar(page, done)).to_contain_text("No text on some pages (pages 3\u20135, 9)")
        expect(bar(page, failed)).to_contain_text("Not one page could be read.")
        page.reload()


def test_uploads_are_remembered_in_the_order_of_the_cards(page: Page):
    """Whichever upload ends first, a reload shows what was there."""
    choose(page, ("large.pdf", pdfs.prose(1) + bytes(2_000_000)), ("small.pdf", pdfs.prose(1)))
    expect(page.locator("ingest-progress[status=PENDING]")).to_have_count(2)
    page.reload()
    expect(page.locator("ingest-progress[status=PENDING]")).to_have_count(2)
    assert names(page) == ["small.pdf", "large.pdf"]


def test_a_lost_connection_is_shown_and_heals(page: Page, stack: Stack, documents: Documents):
    """The node dies and comes back: the page says so, misses nothing, and the bar has not fallen."""
    document_id = documents.create("patient.pdf")
    documents.parse(document_id, 2, 10)
    remember(page, document_id)
    expect(bar(page, document_id)).to_have_attribute("connection", "open")
    stack.web[0].kill()
    expect(bar(page, document_id).get_by_text("Reconnecting…")).to_be_visible()
    expect(page.locator("#connection")).to_have_text("Reconnecting…")
    documents.parse(document_id, 7, 10)
    stack.web[0].start()
    expect(bar(page, document_id)).to_contain_text("Parsed 7 of 10 pages", timeout=HEAL_SECONDS * 1000)
    expect(bar(page, document_id).get_by_text("Reconnecting…")).to_be_hidden()
    expect(page.locator("#connection")).to_have_text("Live")
    documents.complete(document_id)
    expect(bar(page, document_id)).to_have_attribute("status", "COMPLETED")
    assert_never_falls([frame["shown"] for frame in frames(page, document_id)])


def test_an_error_page_of_a_proxy_does_not_end_the_stream(page: Page, documents: Documents):
    """An EventSource gives up for good on a 502; the page opens another."""
    document_id = documents.create("behind-a-proxy.pdf")
    asked: list[str] = []

    def refuse(route: Any) -> None:
        asked.append(route.request.url)
        route.fulfill(status=502, body="<h1>Bad Gateway</h1>", content_type="text/html")

    page.route("**/status/stream/**", refuse)
    remember(page, document_id)
    expect(bar(page, document_id)).to_have_attribute("connection", "lost")
    assert asked
    page.unroute("**/status/stream/**")
    expect(bar(page, document_id)).to_have_attribute("connection", "open", timeout=HEAL_SECONDS * 1000)


def test_all_documents_share_one_connection_that_ends_with_the_last(page: Page, documents: Documents):
    """One EventSource for all that is unfinished; none when all is done, nor after a reload."""
    documents_there = [documents.create(f"{n}.pdf") for n in range(4)]
    documents.complete(documents_there[0])
    remember(page, *documents_there)
    for document_id in documents_there[1:]:
        expect(bar(page, document_id)).to_have_attribute("connection", "open")
    (address,) = open_streams(page)
    assert re.findall(r"id=(\w+)", address) == documents_there[1:]
    for document_id in documents_there[1:]:
        documents.complete(document_id)
    expect(page.locator("#connection")).to_have_text("Ready")
    assert open_streams(page) == []
    page.reload()
    expect(page.locator("ingest-progress[status=COMPLETED]")).to_have_count(4)
    assert page.evaluate("window.sources.length") == 0


def test_a_document_that_is_gone_leaves_the_others_alone(page: Page, documents: Documents):
    """An id that the server does not know is dropped from the list; the rest is live."""
    known, unknown = documents.create("known.pdf"), ids.new_id()
    remember(page, unknown, "../nonsense", known)
    expect(bar(page, known)).to_have_attribute("connection", "open")
    expect(page.locator("#documents > li")).to_have_count(1)
    assert page.evaluate("localStorage.getItem('ingest-live.documents')") == json.dumps([known], separators=(",", ":"))


def test_a_document_that_nobody_can_ask_for_does_not_hold_up_the_others(page: Page, documents: Documents):
    """One status that fails again and again; the rest is live."""
    broken, well = documents.create("broken.pdf"), documents.create("well.pdf")
    page.route(f"**/status/{broken}", lambda route: route.fulfill(status=500, json={"title": "No", "code": "internal"}))
    remember(page, broken, well)
    expect(bar(page, well)).to_have_attribute("connection", "open", timeout=HEAL_SECONDS * 1000)
    expect(page.locator("#connection")).to_have_text("Live")


def test_the_servers_reason_is_shown_and_can_be_dismissed(page: Page):
    """A picture, whatever its name: its card says why it is not taken, in the server's words."""
    choose(page, ("holiday.pdf", b"\xff\xd8\xff\xe0" * 500))
    card = page.locator("#documents > li")
    expect(card.get_by_role("alert")).to_contain_text("This type of file can't be ingested.")
    expect(card.get_by_role("alert")).to_contain_text("The content is of no type that can be read")
    expect(card).to_contain_text("holiday.pdf")
    card.get_by_role("button", name="Dismiss holiday.pdf").press("Enter")
    expect(page.locator("#empty")).to_be_visible()


def test_a_file_that_is_too_large_is_not_even_sent(page: Page):
    """The limit is known before the bytes travel."""
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.method))
    choose(page, ("huge.pdf", bytes(MAX_UPLOAD_BYTES + 1)))
    expect(page.get_by_role("alert")).to_contain_text("The file is too large. It has 2.9 MB; at most 2.9 MB")
    assert "POST" not in sent


def test_two_files_are_uploaded_at_a_time_and_any_can_be_withdrawn(page: Page):
    """The others wait for their turn; withdrawing one lets the next begin."""
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 20_000}
    network.send("Network.emulateNetworkConditions", slow)
    choose(page, *((f"{n}.pdf", pdfs.prose(1) + bytes(1_000_000)) for n in range(4)))
    expect(page.get_by_text("Waiting to upload")).to_have_count(2)
    expect(page.get_by_text(re.compile(r"^Uploading \d+%"))).to_have_count(2)
    page.get_by_role("button", name="Withdraw 3.pdf").click()
    page.get_by_role("button", name="Withdraw 0.pdf").click()
    expect(page.get_by_text(re.compile(r"^Uploading \d+%"))).to_have_count(2)
    page.get_by_role("button", name="Withdraw 1.pdf").click()
    page.get_by_role("button", name="Withdraw 2.pdf").click()
    expect(page.locator("#empty")).to_be_visible()


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>.pdf", "a\u202efdp.exe.pdf", "ملف.pdf", "x" * 240 + ".pdf", "  .pdf"]
)
def test_a_file_name_is_only_ever_text(page: Page, documents: Documents, name: str):
    """No name becomes markup, breaks the layout on a phone, or turns the text around it about."""
    document_id = documents.create(name)
    remember(page, document_id)
    shown = name.strip().replace("\u202e", "\ufffd")
    expect(bar(page, document_id).locator(".filename")).to_have_text(shown, use_inner_text=False)
    assert page.locator("img[src=x]").count() == 0
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_what_goes_up_under_a_hostile_name_comes_back_as_text(page: Page):
    """The way through the upload: the card of the file, then that of the document."""
    name = "<img src=x onerror=alert(1)>.pdf"
    choose(page, (name, pdfs.prose(1)))
    expect(page.locator("ingest-progress .filename")).to_have_text(name)
    assert page.locator("img[src=x]").count() == 0


def test_a_document_is_cancelled_and_tried_again(page: Page):
    """Cancel stops it, and Try again starts the next attempt from nothing, on the same card."""
    choose(page, ("second-thoughts.pdf", pdfs.prose(1)))
    page.get_by_role("button", name="Cancel second-thoughts.pdf").click()
    expect(page.locator("ingest-progress[status=CANCELLED]")).to_have_count(1)
    page.get_by_role("button", name="Cancelled: try second-thoughts.pdf again").click()
    expect(page.locator("ingest-progress[status=PENDING]")).to_have_count(1)
    expect(page.locator("ingest-progress[connection=open]")).to_have_count(1)


def test_an_encrypted_file_asks_for_its_password(page: Page, documents: Documents):
    """Instead of a second try that would fail again; it goes with the next attempt and leaves the page."""
    locked = documents.create("locked.pdf")
    documents.fail(locked, "The file is encrypted: it opens only with a password.", "encrypted")
    remember(page, locked)
    expect(page.get_by_role("button", name="try locked.pdf again")).to_have_count(0)
    field = page.get_by_label("Password of locked.pdf")
    field.fill("correct horse")
    field.press("Enter")
    expect(bar(page, locked)).to_have_attribute("status", "PENDING")
    expect(field).to_be_hidden()
    expect(field).to_have_value("")
    assert documents.has_password(locked)


def test_finished_cards_are_cleared_and_stay_cleared(page: Page, documents: Documents):
    """The list forgets what is over; what runs stays."""
    done, running = documents.create("done.pdf"), documents.create("running.pdf")
    documents.complete(done)
    remember(page, done, running)
    expect(page.locator("#count")).to_have_text("1 in progress · 1 finished")
    page.get_by_role("button", name="Clear finished").click()
    assert names(page) == ["running.pdf"]
    page.reload()
    expect(bar(page, running)).to_have_attribute("connection", "open")
    assert names(page) == ["running.pdf"]


def test_the_element_works_in_any_page(page: Page, stack: Stack, documents: Documents):
    """Two tags in a page that knows nothing of ours: events tell the page; out of the page means no connection."""
    document_id = documents.create("embedded.pdf")
    host = f"""<!doctype html><script type="module" src="/static/ingest-progress.js"></script>
        <script>document.addEventListener("ingest-finished", (event) => {{ window.finished = event.detail; }})</script>
        <ingest-progress document-id="{document_id}" server="{stack.urls[0]}"></ingest-progress>
        <ingest-progress document-id="{document_id}"></ingest-progress>"""
    page.route("**/host", lambda route: route.fulfill(body=host, content_type="text/html"))
    page.goto("/host")
    expect(page.locator("ingest-progress[connection=open]")).to_have_count(2)
    assert len(open_streams(page)) == 1
    page.evaluate(
        "window.removed = [...document.querySelectorAll('ingest-progress')]; removed.forEach((e) => e.remove())"
    )
    wait_until(lambda: open_streams(page) == [], what="the stream is closed")
    documents.parse(document_id, 5, 10)
    page.evaluate("document.body.append(...removed)")
    expect(page.locator("ingest-progress").first).to_contain_text("Parsed 5 of 10 pages")
    documents.complete(document_id)
    wait_until(lambda: page.evaluate("window.finished?.status === 'COMPLETED'"), what="the page is told")
    assert page.evaluate("removed[0].state.message") == "42 chunks"


def test_a_stage_is_announced_to_those_who_do_not_see_it(page: Page, documents: Documents):
    """A live region tells the change of stage, once; the bar has a name, a value and words for it."""
    document_id = documents.create("heard.pdf")
    remember(page, document_id)
    expect(bar(page, document_id)).to_have_attribute("connection", "open")
    documents.parse(document_id, 1, 2)
    expect(bar(page, document_id).get_by_role("status")).to_have_text("heard.pdf: Reading")
    expect(page.get_by_role("progressbar", name="heard.pdf")).to_have_attribute("aria-valuetext", "Reading, 45%")


def test_who_wants_less_motion_gets_none(page: Page, documents: Documents):
    """With reduced motion the bar is where it belongs at once."""
    page.emulate_media(reduced_motion="reduce")
    document_id = documents.create("calm.pdf")
    remember(page, document_id)
    expect(bar(page, document_id)).to_have_attribute("connection", "open")
    documents.parse(document_id, 1, 2)
    wait_until(lambda: frames(page, document_id)[-1]["reported"] == 45)
    assert {round(frame["shown"]) for frame in frames(page, document_id)} == {0, 45}


@pytest.mark.parametrize(
    ("module", "call", "answer"),
    [
        ("words", "m.timeLeft(null)", ""),
        ("words", "m.timeLeft(0.4)", "a moment left"),
        ("words", "m.timeLeft(7.6)", "about 8 s left"),
        ("words", "m.timeLeft(21.5)", "about 25 s left"),
        ("words", "m.timeLeft(130)", "about 2 min left"),
        ("words", "m.timeLeft(3700)", "about 1 h 2 min left"),
        ("words", "m.size(0)", "0 B"),
        ("words", "m.size(4300)", "4.2 kB"),
        ("words", "m.size(1024 ** 3)", "1 GB"),
        ("words", "m.pageRuns([])", ""),
        ("words", "m.pageRuns([7])", "page 7"),
        ("words", "m.pageRuns([9, 3, 5, 4])", "pages 3\u20135, 9"),
        ("words", "m.displayName(' \\n ')", "Untitled document"),
        ("words", "m.nameParts('a-rather-long-name-of-a-file.pdf').join('|')", "a-rather-long-name-of-a-|file.pdf"),
        ("words", "m.stageWord('TRANSLATING')", "TRANSLATING"),
        ("words", "m.happening({status: 'PENDING', message: 'Waiting for a worker'})", "for a worker"),
        ("state", "m.isNewer({seq: 4}, {seq: 4})", False),
        ("state", "m.isNewer({seq: 4}, {seq: 5})", True),
        ("state", "m.barTarget({attempt: 1}, 57, {attempt: 1, status: 'PARSING', progress: 30})", 57),
        ("state", "m.barTarget({attempt: 1}, 57, {attempt: 2, status: 'PENDING', progress: 0})", 0),
        ("state", "m.barTarget({attempt: 1}, 57, {attempt: 1, status: 'LOADING', progress: 100}) < 100", True),
        ("state", "m.wholePercent(99.9)", 99),
        ("state", "(() => { const pace = new m.Pace(); return pace.next(0) > 0 && pace.next(1e9) < 2000 })()", True),
    ],
)
def test_states_read_well(blank: Page, module: str, call: str, answer: object):
    """The pure part of the element, as a table."""
    assert blank.evaluate(f"import('/static/ingest-{module}.js').then((m) => {call})") == answer


def picture(page: Page, name: str) -> Path:
    ARTIFACTS.mkdir(exist_ok=True)
    path = ARTIFACTS / f"{name}.png"
    page.screenshot(path=path, full_page=True, animations="disabled")
    return path


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1000), ("dark", 1000), ("light", 375)], ids=["light", "dark", "phone"]
)
def test_a_picture_of_the_page_is_kept(page: Page, documents: Documents, scheme: Any, width: int):
    """For people to look at: one card of each kind, in ``test-artifacts``."""
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 900})
    there = [documents.create(f"{name}.pdf") for name in ("Annual report", "Deed of partition", "Minutes", "Lecture")]
    documents.parse(there[0], 57, 150)
    documents.complete(there[1], Notice("needs_ocr", "These pages hold pictures of text", (3, 4)))
    documents.fail(there[2], "Not one page could be read.")
    remember(page, *there)
    choose(page, ("holiday.pdf", b"\xff\xd8" * 500))
    expect(page.get_by_role("alert")).to_contain_text("of no type that can be read")
    expect(page.locator("#connection")).to_have_text("Live")
    assert picture(page, f"page-{scheme}-{width}").stat().st_size > 10_000
