"""One target, watched for a while: writes at an even pace on one side, reading on the other, and what became of it."""

from __future__ import annotations

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from bench.reader import Readers, Reading
from bench.targets import Target

#: Writes that are due within so long go out together: a sleep for each of 30,000 a second would be most of the work.
TICK_SECONDS = 0.001

#: A server that has fallen behind works on after its window; it is at rest when it used less than a tenth of so long.
REST_SECONDS = 0.05
REST_MOST_SECONDS = 20


@dataclass(frozen=True)
class Window:
    """What one target did in one window. Times in milliseconds, from the write."""

    expected: int
    delivered: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    first_ms: float
    last_ms: float
    cpu_us: float
    reader_share: float
    late_ms: float


def watch(readers: Readers, target: Target, writes: Sequence[str], seconds: float) -> Window:
    """Write to the paths, in this order, and read what comes. Ends the run when nothing does."""
    expected = readers.begin(target.name, seconds, Counter(writes))
    began, cpu = time.monotonic(), target.cpu_seconds()
    late_seconds = _write_all(target, writes, seconds)
    reading = readers.end()
    cpu, elapsed = target.cpu_seconds() - cpu, time.monotonic() - began
    return _window_of(reading, expected, cpu, elapsed, late_seconds)


def await_rest(target: Target) -> None:
    """Return when the target has nothing left to do, or never seems to get there."""
    end = time.monotonic() + REST_MOST_SECONDS
    while time.monotonic() < end:
        cpu = target.cpu_seconds()
        time.sleep(REST_SECONDS)
        if target.cpu_seconds() - cpu < REST_SECONDS / 10:
            return


def _write_all(target: Target, writes: Sequence[str], seconds: float) -> float:
    """Write at an even pace; give by how much the latest write was late."""
    began, latest, done = time.monotonic(), 0.0, 0
    spacing = seconds / len(writes)
    while done < len(writes):
        late = time.monotonic() - began - done * spacing
        if late < 0:
            time.sleep(max(-late, TICK_SECONDS))
            continue
        latest = max(latest, late)
        due = done + 1 + int(late / spacing)
        target.write(writes[done:due])
        done = due
    return latest


def _window_of(reading: Reading, expected: int, cpu: float, elapsed: float, late_seconds: float) -> Window:
    taken = sorted(reading.taken_ns)
    if not taken:
        raise SystemExit("nothing was delivered")
    by_event = defaultdict(list)
    for written, time_taken in zip(reading.written_ns, reading.taken_ns, strict=True):
        by_event[written].append(time_taken)
    return Window(
        expected=expected,
        delivered=len(taken),
        p50_ms=_ms(taken[len(taken) // 2]),
        p90_ms=_ms(taken[len(taken) * 90 // 100]),
        p99_ms=_ms(taken[len(taken) * 99 // 100]),
        max_ms=_ms(taken[-1]),
        first_ms=_ms(statistics.median(map(min, by_event.values()))),
        last_ms=_ms(statistics.median(map(max, by_event.values()))),
        cpu_us=round(cpu / len(taken) * 1e6, 2),
        reader_share=round(reading.cpu_seconds / elapsed, 3),
        late_ms=round(late_seconds * 1e3, 3),
    )


def _ms(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 3)
