"""The command ``ingest``. Thin: it reads the arguments, and hands on to the modules that do the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from json import dumps
from pathlib import Path
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ingest_client import exits, keys, words
from ingest_client.batch import Batch
from ingest_client.board import make_board
from ingest_client.client import DEFAULT_SERVER, Client, Options, authorization
from ingest_client.errors import RequestRefused
from shared.protocol import encode_state

app = typer.Typer(
    name="ingest",
    help="Ingest documents and watch them move. "
    "Exit status: 0 completed, 1 failed or refused, 2 the server can't be reached, 64 wrong usage.",
    no_args_is_help=False,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(keys.app)

#: The variable with the key to show.
API_KEY = "INGEST_API_KEY"

Server = Annotated[str, typer.Option(envvar="INGEST_SERVER", metavar="URL", help="Where the service is.")]
DocumentId = Annotated[str, typer.Argument(metavar="ID", help="As `ingest submit` printed it.")]


def main() -> None:
    """The entry point: run the command and leave with its exit status."""
    try:
        sys.exit(app(standalone_mode=False))
    except TyperException as error:
        exits.tell(f"{error.format_message()} (see: ingest --help)")
        sys.exit(exits.USAGE)


@app.command()
@exits.reported
def submit(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, readable=True, help="What to ingest."),
    ],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Watch the documents to their end.")] = False,
    engine: Annotated[str | None, typer.Option(help="Who reads the pages: auto, pdfplumber or pdfium.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Target size of a chunk, in characters.")] = None,
    chunk_overlap: Annotated[int | None, typer.Option(help="Characters that a chunk repeats.")] = None,
    ask_password: Annotated[bool, typer.Option("--ask-password", help="Of encrypted files; it is not shown.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Ingest anew, even if there is a result already.")] = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Upload documents, one by one. Prints their ids, or follows them with --follow."""
    options = _chosen(engine, chunk_size, chunk_overlap)
    if ask_password:
        options["password"] = typer.prompt("Password", hide_input=True, err=True)
    if again:
        options["reuse"] = False
    client = _client(server)
    if not follow:
        return _submit(client, files, options)

    def send_all(batch: Batch) -> None:
        for file in files:
            batch.send(file, options)

    return _follow(client, send_all)


@app.command()
@exits.reported
def watch(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="As `ingest submit` printed them.")],
    server: Server = DEFAULT_SERVER,
) -> int:
    """Watch documents to their end."""

    def join_all(batch: Batch) -> None:
        batch.join(*dict.fromkeys(ids))

    return _follow(_client(server), join_all)


@app.command()
@exits.reported
def status(
    document_id: DocumentId,
    json: Annotated[bool, typer.Option("--json", help="As the server tells it, for programs.")] = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Print where a document stands. Exit status 1 when it failed or was cancelled."""
    state = _client(server).status(document_id)
    print(encode_state(state) if json else "\n".join(words.report(state)))
    return exits.FAILED if words.reason(state) else exits.OK


@app.command()
@exits.reported
def chunks(document_id: DocumentId, server: Server = DEFAULT_SERVER) -> int:
    """Print the chunks of a completed document as JSON Lines."""
    for line in _client(server).chunk_lines(document_id):
        sys.stdout.buffer.write(line)
    return exits.OK


@app.command()
@exits.reported
def queues(
    json: Annotated[bool, typer.Option("--json", help="As the server tells it, for programs.")] = False,
    server: Server = DEFAULT_SERVER,
) -> int:
    """Print how much waits, how much is worked on, and how old the oldest is."""
    found = _client(server).queues()
    print(dumps(found) if json else "\n".join(words.queues(found)))
    return exits.OK


@app.command()
@exits.reported
def up(
    web: Annotated[int, typer.Option(min=1, help="Web processes.")] = 1,
    workers: Annotated[int, typer.Option(min=1, help="Documents' parts handled at the same time.")] = os.cpu_count()
    or 1,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
) -> int:
    """Start everything on this machine: an embedded Valkey, the web tier and the workers. Ctrl-C stops it."""
    # Only here: the other commands need neither Valkey's binary nor the service's settings.
    from ingest_client.up import run

    return run(web=web, workers=workers, host=host, port=port, environment=os.environ)


def _client(server: str) -> Client:
    # Never closed: its connections end with the process, and other threads may still be reading from them.
    api_key = os.environ.get(API_KEY, "")  # no option: every user of the machine can read the arguments of a process
    try:
        authorization(api_key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=API_KEY) from error
    try:
        return Client(server, api_key=api_key)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--server") from error


def _chosen(engine: str | None, chunk_size: int | None, chunk_overlap: int | None) -> Options:
    options = Options()
    if engine is not None:
        options["engine"] = engine
    if chunk_size is not None:
        options["chunk_size"] = chunk_size
    if chunk_overlap is not None:
        options["chunk_overlap"] = chunk_overlap
    return options


def _submit(client: Client, files: list[Path], options: Options) -> int:
    status = exits.OK
    for file in files:
        try:
            document_id = client.submit(file, **options)
        except (RequestRefused, OSError) as error:
            if exits.status_of(error) == exits.UNREACHABLE:
                raise
            exits.tell(f"{file}: {exits.reason_of(error)}")
            status = exits.FAILED
        else:
            print(document_id, flush=True)
    return status


def _follow(client: Client, start: Callable[[Batch], None]) -> int:
    board = make_board()
    batch = Batch(client, board)
    try:
        with board:
            start(batch)
            batch.wait()
    except KeyboardInterrupt:
        if batch.unfinished:
            exits.tell(f"the server goes on; to see it: ingest watch {' '.join(batch.unfinished)}")
        raise
    return batch.verdict()
