"""The last resort: a small process that stops the others when the supervisor has died without a word (SIGKILL).

It runs alone, with the standard library only. Its standard input is a pipe whose other end only the supervisor holds:
``+<group> <tier>`` says that a process group was started, ``-<group>`` that it is gone. At the end of the pipe,
whatever is left is stopped: the last tier first, politely and then not. It also holds the supervisor's lock until then.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

POLITE_SECONDS = 10.0
POLL_SECONDS = 0.05


def main(lines: Iterable[str]) -> None:
    """Read to the end of the pipe, then stop what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: dict[int, int] = {}
    for line in lines:
        if line.startswith("+"):
            group, tier = map(int, line[1:].split())
            groups[group] = tier
        else:
            groups.pop(int(line[1:]), None)
    for tier in sorted(set(groups.values()), reverse=True):
        stop([group for group in groups if groups[group] == tier])


def stop(groups: list[int]) -> None:
    """Ask the leader of each group to stop; then kill whoever is left of the group, after `POLITE_SECONDS` at most."""
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
    deadline = time.monotonic() + POLITE_SECONDS
    while any(map(is_running, groups)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def is_running(process: int) -> bool:
    """Whether the process is there and not a zombie: in a container there may be nobody who buries it."""
    try:
        os.kill(process, 0)
        stat = Path(f"/proc/{process}/stat").read_text()
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        # No such folder on macOS, where the first call was enough.
        return not Path("/proc/self").exists()
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


if __name__ == "__main__":
    main(sys.stdin)
