"""One document on its way: each function reads what the stage before left, runs its own stage, reports, stores.

Every function may run twice for the same document and attempt, even at the same time: files are replaced whole, with
the same bytes, rows all at once, and the record refuses whoever comes too late. It knows no Celery.
"""

from __future__ import annotations

from functools import partial

from ingest_worker.progress import Progress
from ingest_worker.stages import chunk, load, parse
from ingest_worker.stages.findings import Findings, counted
from ingest_worker.stages.reading import Limits
from ingest_worker.workbench import Workbench
from shared.documents import Chunk, chunks_from, pages_from, to_json_lines
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
    source = job.bench.store.source(job.document_id)
    with job.bench.storage.reading(pages_path(job.document_id)) as lines:
        text = chunk.join(pages_from(lines))
    chunks = chunk.split(text, source.sha256, source.options)
    with job.bench.storage.writing(text_path(job.document_id)) as file:
        file.write(text.text.encode())
    _write_chunks(job, chunks)


def _write_chunks(job: Job, chunks: list[Chunk]) -> None:
    track = job.progress.track(Status.CHUNKING, "Wrote", "chunks", len(chunks))
    with job.bench.storage.writing(chunks_path(job.document_id)) as file:
        for done, line in enumerate(to_json_lines(chunks), start=1):
            file.write(line)
            track.reach(done)


def load_document(job: Job) -> None:
    """From the file of chunks to the database. The document is COMPLETED after it."""
    job.progress.begin(Status.LOADING, "Loading the chunks")
    chunks = _read_chunks(job)
    track = job.progress.track(Status.LOADING, "Loaded", "chunks", len(chunks))
    load.load(job.bench.table, job.document_id, chunks, track.reach)
    job.record(
        Status.COMPLETED,
        f"Completed: {counted(_count_pages(job), 'page')}, {counted(chunks, 'chunk')}",
        progress=overall_progress(Status.COMPLETED, 0, 0),
    )


def _read_chunks(job: Job) -> list[Chunk]:
    with job.bench.storage.reading(chunks_path(job.document_id)) as lines:
        return list(chunks_from(lines))


def _count_pages(job: Job) -> int:
    with job.bench.storage.reading(pages_path(job.document_id)) as lines:
        return sum(1 for _ in lines)
