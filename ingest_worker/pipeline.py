"""One part of a document on its way: each step reads what the one before left, does its own, stores it, settles.

Any step may be run again, by another worker, when this one is lost: files are replaced whole, rows all at once, and
the record refuses whoever no longer holds the part. It knows no Celery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import structlog

from ingest_worker.desk import Desk
from ingest_worker.lease import HandBack, Lease
from ingest_worker.progress import Progress, Track
from ingest_worker.stages import chunk, load
from ingest_worker.stages.findings import Findings, counted
from ingest_worker.stages.reading import Problem, Reading
from ingest_worker.workbench import Workbench
from shared.documents import Page, chunks_from, pages_from, to_json_lines
from shared.errors import TookTooLong, TooMuchText, UnknownIngestion, WorkersLost
from shared.jobs import Status, overall_progress
from shared.media import MediaType
from shared.parts import CHUNK, LOAD, PLAN, Part, Step, halves, missing, pages, size_of_parts
from shared.protocol import Notice
from shared.storage import chunks_path, pages_folder, pages_path, provisional_path, text_path
from shared.worklist import Plan

log = structlog.get_logger(__name__)

#: A range that was lost with so many workers is cut in halves: smaller ones get through where workers don't live long,
#: and if a page is to blame, it will be alone in the end.
LOSSES_TO_HALVE = 2

#: A single page is given up then; the document completes without it. It can't do without any other step.
LOSSES_TO_GIVE_UP = 10


class Job:
    """A part in hand, and what is needed to work on it.

    ``page_after`` tells, when the end of a range is near, which page will be read after it; 0: that is not known.
    ``awaiting`` is called a few times a second while a page is awaited.
    """

    def __init__(
        self,
        bench: Workbench,
        desk: Desk,
        lease: Lease,
        page_after: Callable[[], int],
        awaiting: Callable[[], None],
    ) -> None:
        claim = lease.claim
        self.bench = bench
        self.desk = desk
        self.claim = claim
        self.lease = lease
        self.page_after = page_after
        self._awaiting = awaiting
        self.document_id = claim.document_id
        self.record = partial(bench.store.record, claim.document_id, claim.attempt, held=claim.held)
        self.progress = Progress(self.record, bench.settings.report_interval_seconds)
        self.settle = partial(bench.worklist.settle, claim)

    def tick(self) -> None:
        """Called while the file is read. Raises what `Lease.check` raises."""
        self.lease.check()
        self._awaiting()

    def check_cost(self) -> None:
        """Return when the document is within its limits. Raises `TookTooLong`, `TooMuchText`."""
        settings = self.bench.settings
        if self.claim.spent_seconds + self.lease.elapsed_seconds > settings.document_seconds:
            raise TookTooLong(f"The document took more than {settings.document_seconds:.0f} seconds of work.")
        if self.claim.characters > settings.max_document_characters:
            raise TooMuchText(f"The document holds more than {settings.max_document_characters} characters.")

    def check_losses(self) -> None:
        """Return when another worker may be risked on the part. Raises `WorkersLost`."""
        step, lost = self.claim.part.step, self.claim.lost
        if step is not Step.PAGES and lost >= LOSSES_TO_GIVE_UP:
            raise WorkersLost(f"{lost} workers, one after the other, were lost with the step {str(step)!r}.")


def work_on(job: Job) -> None:
    """Do the part in hand.

    Raises `shared.errors.DocumentError` when the document is at fault, what `Lease.check` raises, `StoreUnavailable`.
    """
    job.check_cost()
    job.check_losses()
    match job.claim.part.step:
        case Step.PLAN:
            plan(job)
        case Step.PAGES:
            parse(job)
        case Step.CHUNK:
            chunk_document(job)
        case Step.LOAD:
            load_document(job)


def plan(job: Job) -> None:
    """Count the pages, and have those parsed that no earlier attempt has parsed, or has left out."""
    is_pdf = job.desk.source(job.claim).media_type == MediaType.PDF
    job.progress.begin(Status.PARSING, "Opening the file" if is_pdf else "Converting the file")
    document = job.desk.document(job.claim, job.tick)
    done, gone = _parted(job)
    again = [part for part, found in done.items() if _was_left_out_before(job, found)]
    done = {part: found for part, found in done.items() if part not in again}
    size = size_of_parts(document.page_count, job.bench.settings.pages_per_part)
    rest = missing(document.page_count, done, size)
    if rest:
        document.look_ahead(rest[0].first)
    kept = sum(part.pages for part in done)
    characters = sum(found["characters"] for found in done.values())
    plan = Plan(document.page_count, kept, document.unit)
    job.settle(
        finished=_converted(job),
        gone=gone + again,
        rest=rest or [CHUNK],
        plan=plan,
        spent_seconds=job.lease.elapsed_seconds,
        characters=characters,
    )


def _converted(job: Job) -> dict[Part, object]:
    """Where the sections of a file without pages are stored, for whoever opens it next."""
    return {PLAN: {"sections": job.desk.sections, "repaired": job.desk.repaired}} if job.desk.sections else {}


def _was_left_out_before(job: Job, found: Any) -> bool:
    """Whether an earlier attempt left out pages of a range: what was amiss may have been the machine or a setting."""
    return found.get("attempt") != job.claim.attempt and Findings.from_json(found["findings"]).left_out > 0


def _parted(job: Job) -> tuple[dict[Part, Any], list[Part]]:
    """The ranges that are parsed, and those of which only the record says so: their files are gone.

    That is so when Redis forgot the end of a document: with that its pages were removed.
    """
    there = job.bench.storage.names(pages_folder(job.document_id))
    done, gone = {}, []
    for part, found in job.bench.worklist.done(job.document_id).items():
        path = pages_path(job.document_id, part.first, found["token"])
        if path.rsplit("/", 1)[-1] in there:
            done[part] = found
        else:
            gone.append(part)
    return done, gone


def parse(job: Job) -> None:
    """From a range of the uploaded file to a file of pages; the last range of a document leads on to chunking."""
    part = job.claim.part
    if job.claim.lost >= LOSSES_TO_HALVE and part.pages > 1:
        job.settle(rest=halves(part))
        return
    findings, read = Findings(), []
    for reading in _readings(job):
        findings.note(reading)
        read.append(reading.page)
    if not read:
        raise HandBack
    findings.repaired = job.desk.repaired
    _store(job, read)
    last, characters = read[-1].number, sum(len(page.text) for page in read)
    found = {
        "attempt": job.claim.attempt,
        "token": job.claim.token,
        "characters": characters,
        "findings": findings.to_json(),
    }
    job.settle(
        finished={pages(part.first, last): found, **_converted(job)},
        rest=[pages(last + 1, part.last)] if last < part.last else [],
        then=CHUNK,
        spent_seconds=job.lease.elapsed_seconds,
        characters=characters,
        served_bytes=job.desk.source(job.claim).size_bytes * (last - part.first + 1) // job.claim.total,
    )


def _store(job: Job, read: list[Page]) -> None:
    """The pages, and for those who can't wait what chunks they would make by themselves."""
    first, token = job.claim.part.first, job.claim.token
    source = job.desk.source(job.claim)
    markup = MediaType(source.media_type).is_markup
    provisional = chunk.chunks(_while_ours(job, read), source.sha256, source.options, markup=markup)
    with job.bench.storage.writing(provisional_path(job.document_id, first, token)) as file:
        file.writelines(to_json_lines(provisional))
    with job.bench.storage.writing(pages_path(job.document_id, first, token)) as file:
        file.writelines(to_json_lines(read))


def _while_ours(job: Job, read: list[Page]) -> Iterator[Page]:
    """What is read is stored even when the worker stops, but not for a document that is cancelled or another's."""
    for page in read:
        job.lease.check_ours()
        yield page


def _readings(job: Job) -> Iterator[Reading]:
    """The pages of the part; ends early when it takes too long or the worker is told to stop."""
    part = job.claim.part
    if job.claim.lost >= LOSSES_TO_GIVE_UP:
        yield Reading.left_out(part.first, Problem.CRASHED)
        return
    try:
        document = job.desk.document(job.claim, job.tick)
        for number in range(part.first, part.last + 1):
            job.check_cost()
            job.lease.read(number - part.first)
            yield document.reading(number, number + 1 if number < part.last else job.page_after())
            if job.lease.elapsed_seconds > job.bench.settings.part_seconds:
                return
    except HandBack:
        return


def chunk_document(job: Job) -> None:
    """From the files of pages to the text of the document and a file of chunks.

    Nothing waits and nothing runs is what led here. That all pages are parsed follows, unless the record lost a part;
    so it is counted before a document is said to be whole.
    """
    done = job.bench.worklist.done(job.document_id)
    lost = missing(job.claim.total, done, size_of_parts(job.claim.total, job.bench.settings.pages_per_part))
    if lost:
        log.error("document.incomplete", parts=[part.name for part in lost])
        job.settle(rest=lost)
        return
    job.progress.begin(Status.CHUNKING, "Splitting the text into chunks", _warnings(job, done.values()))
    if _was_chunked(job):
        job.settle(then=LOAD, spent_seconds=job.lease.elapsed_seconds)
        return
    source, storage = job.desk.source(job.claim), job.bench.storage
    track = job.progress.track(Status.CHUNKING, "Split", job.claim.unit, job.claim.total)
    with (
        storage.writing(text_path(job.document_id)) as text,
        storage.writing(chunks_path(job.document_id)) as file,
    ):
        pages = _reported(job, _pages(job, done), track)
        found = chunk.chunks(
            pages,
            source.sha256,
            source.options,
            markup=MediaType(source.media_type).is_markup,
            wrote=lambda more: text.write(more.encode()),
        )
        file.writelines(to_json_lines(found))
    job.settle(then=LOAD, spent_seconds=job.lease.elapsed_seconds)


def _was_chunked(job: Job) -> bool:
    """Whether the pages are gone because it was COMPLETED before, which Redis forgot: the chunks are there then."""
    _, gone = _parted(job)
    chunks = chunks_path(job.document_id).rsplit("/", 1)[-1]
    return bool(gone) and chunks in job.bench.storage.names(job.document_id)


def _reported(job: Job, pages: Iterable[Page], track: Track) -> Iterator[Page]:
    for page in pages:
        job.lease.check()
        yield page
        track.reach(page.number)  # when the next is asked for, so this one has been cut


def _warnings(job: Job, done: Iterable[Any]) -> tuple[Notice, ...]:
    return Findings.merge(Findings.from_json(found["findings"]) for found in done).warnings(job.claim.unit)


def _pages(job: Job, done: dict[Part, Any]) -> Iterator[Page]:
    for part, found in done.items():
        with job.bench.storage.reading(pages_path(job.document_id, part.first, found["token"])) as lines:
            yield from pages_from(lines)


def load_document(job: Job) -> None:
    """From the file of chunks to the database. The document is COMPLETED after it, and nothing of its work is left."""
    source = job.desk.source(job.claim)  # before the end: with that, its password is forgotten
    job.progress.begin(Status.LOADING, "Loading the chunks")
    count = _count_lines(job, chunks_path(job.document_id))
    track = job.progress.track(Status.LOADING, "Loaded", "chunks", count)

    def loaded(so_many: int) -> None:
        job.lease.check()
        track.reach(so_many)

    with job.bench.storage.reading(chunks_path(job.document_id)) as lines:
        load.load(job.bench.table, job.document_id, chunks_from(lines), loaded)
    _complete(job, count)
    job.bench.storage.remove(pages_folder(job.document_id))
    if not source.sealed_password:  # who doesn't know the password shall not get at the text by the bytes alone
        job.bench.store.remember_result(job.document_id, source)


def _complete(job: Job, chunks: int) -> None:
    try:
        job.record(
            Status.COMPLETED,
            f"Completed: {counted(job.claim.total, job.claim.unit.removesuffix('s'))}, {counted(chunks, 'chunk')}",
            progress=overall_progress(Status.COMPLETED, 0, 0),
        )
    except UnknownIngestion:
        job.bench.table.remove(job.document_id)  # whoever removed the document did not see the rows yet
        raise


def _count_lines(job: Job, path: str) -> int:
    with job.bench.storage.reading(path) as lines:
        return sum(1 for _ in lines)
