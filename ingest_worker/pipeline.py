"""One document on its way: each function reads what the stage before left, runs its own stage, reports, stores.

Every function may run twice for the same document and attempt, even at the same time: files are replaced whole, with
the same bytes, rows all at once, and the record refuses whoever comes too late. It knows no Celery.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

from ingest_worker.progress import Progress, Track
from ingest_worker.stages import chunk, load, parse
from ingest_worker.stages.findings import Findings, counted
from ingest_worker.stages.reading import Limits
from ingest_worker.workbench import Workbench
from shared.documents import Page, chunks_from, pages_from, to_json_lines
from shared.jobs import Status, overall_progress
from shared.storage import chunks_path, pages_path, text_path


class Job:
    """One attempt at one document."""

    def __init__(self, bench: Workbench, document_id: str, attempt: int) -> None:
        self.document_id = document_id
        self.bench = bench
        self.record = partial(bench.store.record, document_id, attempt)
        self.progress = Progress(self.record, bench.settings.report_interval_seconds)


def parse_document(job: Job) -> None:
    """From the uploaded bytes to a file of pages. Raises `shared.errors.DocumentError` when that is impossible."""
    job.progress.begin(Status.PARSING, "Opening the file")
    storage = job.bench.storage
    source = job.bench.store.source(job.document_id)
    limits = Limits(job.bench.settings.max_pages, job.bench.settings.max_page_characters)
    with (
        storage.as_local_file(source.path) as path,
        parse.opened(path, source.media_type, source.options.engine, limits) as document,
        storage.writing(pages_path(job.document_id)) as pages,
    ):
        findings = Findings()
        track = job.progress.track(Status.PARSING, "Parsed", "pages", document.page_count)
        for number in range(1, document.page_count + 1):
            reading = document.reading(number)
            pages.writelines(to_json_lines([reading.page]))
            findings.note(reading)
            finished = number == document.page_count
            track.reach(number, findings.warnings(repaired=document.repaired) if finished else None)


def chunk_document(job: Job) -> None:
    """From the file of pages to the text of the document and a file of chunks."""
    job.progress.begin(Status.CHUNKING, "Splitting the text into chunks")
    source, storage = job.bench.store.source(job.document_id), job.bench.storage
    track = job.progress.track(Status.CHUNKING, "Split", "pages", _count_lines(job, pages_path(job.document_id)))
    with (
        storage.reading(pages_path(job.document_id)) as lines,
        storage.writing(text_path(job.document_id)) as text,
        storage.writing(chunks_path(job.document_id)) as file,
    ):
        pages = _reported(pages_from(lines), track)
        found = chunk.chunks(pages, source.sha256, source.options, wrote=lambda more: text.write(more.encode()))
        file.writelines(to_json_lines(found))


def _reported(pages: Iterable[Page], track: Track) -> Iterator[Page]:
    for page in pages:
        yield page
        track.reach(page.number)  # when the next is asked for, so this one has been cut


def load_document(job: Job) -> None:
    """From the file of chunks to the database. The document is COMPLETED after it."""
    job.progress.begin(Status.LOADING, "Loading the chunks")
    count = _count_lines(job, chunks_path(job.document_id))
    track = job.progress.track(Status.LOADING, "Loaded", "chunks", count)
    with job.bench.storage.reading(chunks_path(job.document_id)) as lines:
        load.load(job.bench.table, job.document_id, chunks_from(lines), track.reach)
    pages = _count_lines(job, pages_path(job.document_id))
    job.record(
        Status.COMPLETED,
        f"Completed: {counted(pages, 'page')}, {counted(count, 'chunk')}",
        progress=overall_progress(Status.COMPLETED, 0, 0),
    )


def _count_lines(job: Job, path: str) -> int:
    with job.bench.storage.reading(path) as lines:
        return sum(1 for _ in lines)
