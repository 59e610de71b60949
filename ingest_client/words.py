"""A state in words, for people who read a terminal. Pure; it knows neither colours nor widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from shared.jobs import Status
from shared.protocol import Notice, State

_BYTES_PER_MB = 1_000_000


def plain(text: str) -> str:
    """The text on one line, without what a terminal takes for a command: names and messages come from strangers."""
    return "".join(character if character.isprintable() else " " for character in text)


def percent(state: State) -> str:
    """``30%``, rounded down, so that 100% is said of a completed document only."""
    return f"{int(state.progress)}%"


def line(state: State) -> str:
    """One line that stands for itself: ``report.pdf  PARSING 30%  Parsed 150 of 500 pages  (0:21 left)``."""
    parts = [plain(state.filename), f"{state.status} {percent(state)}", plain(outcome(state))]
    if state.eta_seconds is not None:
        parts.append(f"({duration(state.eta_seconds)} left)")
    return "  ".join(part for part in parts if part)


def outcome(state: State) -> str:
    """What to say of a document now: why it did not complete, else its message, in the end with every warning."""
    warnings = [warning.message for warning in state.warnings] if state.is_final else []
    return "; ".join([reason(state) or state.message, *warnings])


def reason(state: State) -> str:
    """Why a document did not complete; empty for one that did, or still may."""
    if state.error:
        return f"{state.error.code}: {state.error.message}"
    return {Status.FAILED: "failed", Status.CANCELLED: "cancelled"}.get(state.status, "")


def queues(found: Mapping[str, float]) -> Iterator[str]:
    """Lines for what ``GET /queues`` says."""
    for name, age in (("queued", "oldest_queued_seconds"), ("running", "oldest_seconds")):
        oldest = f", the oldest for {duration(found[age])}" if found[name] else ""
        yield f"{name:8} {found[name]:.0f}{oldest}"
    yield f"{'parts':8} {found['parts_claimable']:.0f} that more workers could take on at once"


def duration(seconds: float) -> str:
    """``0:21`` or ``1:02:03``, rounded up."""
    minutes, rest = divmod(-int(-seconds // 1), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def time_taken(state: State) -> str:
    """``in 0:42`` for a finished document, else empty."""
    if not state.finished_at:
        return ""
    elapsed = datetime.fromisoformat(state.finished_at) - datetime.fromisoformat(state.created_at)
    return f"in {duration(elapsed.total_seconds())}"


def sending(sent_bytes: int, size_bytes: int | None) -> str:
    """``sending 12.3 of 40.0 MB``."""
    total = f" of {size_bytes / _BYTES_PER_MB:.1f}" if size_bytes else ""
    return f"sending {sent_bytes / _BYTES_PER_MB:.1f}{total} MB"


def report(state: State) -> Iterator[str]:
    """Everything about one document, a line for each thing."""
    yield plain(state.filename)
    for name, value in _facts(state):
        if value:
            yield f"  {name:<9} {plain(value)}"


def _facts(state: State) -> Iterator[tuple[str, str]]:
    yield "id", state.id
    yield "status", f"{state.status} {percent(state)}"
    yield "message", state.message
    if state.stage:
        yield "stage", f"{state.stage.done} of {state.stage.total} {state.stage.unit}"
    if state.eta_seconds is not None:
        yield "left", duration(state.eta_seconds)
    if state.attempt > 1:
        yield "attempt", str(state.attempt)
    yield "created", state.created_at
    yield "updated", state.updated_at
    yield "finished", " ".join([state.finished_at or "", time_taken(state)]).strip()
    yield "error", reason(state)
    for warning in state.warnings:
        yield "warning", _warning(warning)


def _warning(warning: Notice) -> str:
    pages = f" (pages {', '.join(map(str, warning.pages))})" if warning.pages else ""
    return f"{warning.code}: {warning.message}{pages}"
