"""What a person sees while documents move: live bars on a terminal, plain lines anywhere else.

A board has a row per document, which may be there before the document has an id. Its methods may be called from any
thread. It knows nothing of HTTP and decides nothing.
"""

from __future__ import annotations

import sys
from threading import Lock
from types import TracebackType
from typing import NewType, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID
from rich.progress_bar import ProgressBar
from rich.table import Column
from rich.text import Text

from ingest_client import words
from shared.jobs import Status
from shared.protocol import State

Row = NewType("Row", int)

#: Below the bars: the line of the prompt, and one for what rich adds when it has to cut.
SPARE_LINES = 2

_STYLES = {"SENDING": "cyan", Status.COMPLETED: "green", Status.FAILED: "red", Status.CANCELLED: "yellow"}
_REFUSED = "REFUSED"


class Board(Protocol):
    """A row per document. Use it in a ``with``."""

    def begin(self, filename: str) -> Row:
        """A new row, for a document that is about to be sent, or is there."""

    def sending(self, row: Row, sent_bytes: int, size_bytes: int | None) -> None:
        """So much of the file has been sent."""

    def refused(self, row: Row, reason: str) -> None:
        """The document never came to be."""

    def show(self, row: Row, state: State) -> None:
        """The document has moved."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_board() -> Board:
    """The board that suits standard output."""
    console = Console()
    return Bars(console) if console.is_terminal else Lines()


class Lines:
    """One line for each change of the stage or of the whole percent."""

    def __init__(self) -> None:
        self._filenames: list[str] = []
        self._shown: dict[Row, tuple[str, int]] = {}
        self._lock = Lock()

    def begin(self, filename: str) -> Row:
        self._filenames.append(words.plain(filename))
        return Row(len(self._filenames) - 1)

    def sending(self, row: Row, sent_bytes: int, size_bytes: int | None) -> None:
        if sent_bytes == 0:
            self._print(row, ("SENDING", 0), f"{self._filenames[row]}  {words.sending(sent_bytes, size_bytes)}")

    def refused(self, row: Row, reason: str) -> None:
        self._print(row, (_REFUSED, 0), f"{self._filenames[row]}  {_REFUSED}  {words.plain(reason)}")

    def show(self, row: Row, state: State) -> None:
        self._print(row, (state.status, int(state.progress)), words.line(state))

    def _print(self, row: Row, change: tuple[str, int], line: str) -> None:
        with self._lock:
            if self._shown.get(row) != change:
                self._shown[row] = change
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Bars:
    """A live table: name, stage, bar, percent, message, time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            _Field("name", Column(ratio=3, no_wrap=True, overflow="ellipsis")),
            _Field("stage", Column(width=9)),
            _Bar(bar_width=None, table_column=Column(ratio=3, min_width=10)),
            _Field("percent", Column(width=4, justify="right")),
            _Field("message", Column(ratio=4, no_wrap=True, overflow="ellipsis")),
            _Field("time", Column(width=13, no_wrap=True, justify="right")),
            console=console,
            expand=True,
        )

    def begin(self, filename: str) -> Row:
        name = words.plain(filename)
        return Row(self._progress.add_task("", name=name, stage="", percent="", message="", time=""))

    def sending(self, row: Row, sent_bytes: int, size_bytes: int | None) -> None:
        self._progress.update(TaskID(row), stage="SENDING", message=words.sending(sent_bytes, size_bytes))

    def refused(self, row: Row, reason: str) -> None:
        self._progress.update(TaskID(row), stage=_REFUSED, message=words.plain(reason))
        self._make_room(row)

    def show(self, row: Row, state: State) -> None:
        left = f"{words.duration(state.eta_seconds)} left" if state.eta_seconds is not None else ""
        self._progress.update(
            TaskID(row),
            completed=state.progress,
            name=words.plain(state.filename),
            stage=str(state.status),
            percent=words.percent(state),
            message=words.plain(words.outcome(state)),
            time=words.time_taken(state) or left,
        )
        if state.is_final:
            self._make_room(row)

    def _make_room(self, row: Row) -> None:
        """Hide a row that is over, until the end, when there are more than the terminal has lines."""
        shown = sum(task.visible for task in self._progress.tasks)
        if shown > self._progress.console.height - SPARE_LINES:
            self._progress.update(TaskID(row), visible=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._progress.tasks:
            self._progress.update(task.id, visible=True)
        self._progress.stop()


def _style(stage: str) -> str:
    return "red" if stage == _REFUSED else _STYLES.get(stage, "")


class _Field(ProgressColumn):
    """A field of the row as it is: rich would read markup into a name like ``[draft].pdf``."""

    def __init__(self, name: str, column: Column) -> None:
        super().__init__(column)
        self._name = name

    def render(self, task: Task) -> Text:
        style = _style(task.fields["stage"]) if self._name == "stage" else ""
        return Text(task.fields[self._name], style=style)


class _Bar(BarColumn):
    """A bar in the colour of its stage."""

    def render(self, task: Task) -> ProgressBar:
        bar = super().render(task)
        style = _style(task.fields["stage"])
        if style:
            bar.complete_style = bar.finished_style = style
        return bar
