"""Some documents on their way, from the file to the verdict: sent one by one, shown on a board, counted at the end."""

from __future__ import annotations

from pathlib import Path

from ingest_client import exits, words
from ingest_client.board import Board, Row
from ingest_client.client import Client, Options
from ingest_client.errors import ClientError, RequestRefused
from ingest_client.following import Following
from shared.jobs import Status
from shared.protocol import State


class Batch:
    """The documents of one command. The server being out of reach ends it with a `ClientError`; nothing else does."""

    def __init__(self, client: Client, board: Board) -> None:
        self._client = client
        self._board = board
        self._following = Following(client, self._show)
        self._rows: dict[str, Row] = {}
        self._states: dict[str, State] = {}
        self._refusals: list[str] = []

    @property
    def unfinished(self) -> list[str]:
        """The ids whose final state has not been seen."""
        return [document_id for document_id in self._rows if not self._is_final(document_id)]

    def send(self, file: Path, options: Options) -> None:
        """Upload a file and follow it. A file that can't be read, or is refused, is noted, and the others go on."""
        row = self._board.begin(file.name)
        try:
            size_bytes = file.stat().st_size
            self._board.sending(row, 0, size_bytes)
            document_id = self._client.submit(
                file, sent=lambda sent_bytes: self._board.sending(row, sent_bytes, size_bytes), **options
            )
        except (RequestRefused, OSError) as error:
            self._refused(row, file.name, error)
        else:
            self._rows[document_id] = row
            self._following.add(document_id)

    def join(self, *document_ids: str) -> None:
        """Follow documents that are there already. One that the server does not know is noted, and the others go on."""
        self._following.add(*[document_id for document_id in document_ids if self._is_running(document_id)])

    def wait(self) -> None:
        """Return when every document has come to its end. Raises `ClientError`."""
        self._following.wait()

    def verdict(self) -> int:
        """The exit status, and each reason for it on standard error."""
        reasons = [*self._refusals, *(self._reason(document_id) for document_id in self._rows)]
        for reason in filter(None, reasons):
            exits.tell(reason)
        return exits.FAILED if any(reasons) else exits.OK

    def _show(self, state: State) -> None:
        self._states[state.id] = state
        self._board.show(self._rows[state.id], state)

    def _is_running(self, document_id: str) -> bool:
        """Whether there is more to come of a document, whose present state is shown."""
        try:
            state = self._client.status(document_id)
        except RequestRefused as error:
            self._refused(None, document_id, error)
            return False
        self._rows[document_id] = self._board.begin(state.filename)
        self._show(state)
        return not state.is_final

    def _refused(self, row: Row | None, name: str, error: ClientError | OSError) -> None:
        if exits.status_of(error) == exits.UNREACHABLE:
            raise error
        reason = exits.reason_of(error)
        self._refusals.append(f"{name}: {reason}")
        if row is not None:
            self._board.refused(row, reason)

    def _is_final(self, document_id: str) -> bool:
        return document_id in self._states and self._states[document_id].is_final

    def _reason(self, document_id: str) -> str:
        if not self._is_final(document_id):
            return f"{document_id}: the server stopped telling before the end"
        state = self._states[document_id]
        if state.status is Status.COMPLETED:
            return ""
        return f"{state.filename}: {words.reason(state)}"
