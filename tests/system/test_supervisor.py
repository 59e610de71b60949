"""The supervisor with real processes: small stand-ins that say what they do."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.awaiting import wait_until

#: A process that says when it starts and when it is asked to stop, and has a child in its group.
POLITE = """
import signal, subprocess, sys, time
name = sys.argv[1]
child = subprocess.Popen(["sleep", "600"])
def stop(*_):
    print(name, "stops", flush=True)
    child.kill(); child.wait()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print(name, "runs", flush=True)
while True:
    time.sleep(1)
"""

#: One that takes no notice.
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(sys.argv[1], "runs", flush=True)
while True:
    time.sleep(1)
"""

#: One whose leader obeys and leaves a child behind.
CARELESS = """
import subprocess, sys, time
subprocess.Popen(["sleep", "600"])
print(sys.argv[1], "runs", flush=True)
while True:
    time.sleep(1)
"""

#: One that writes a lot, each line in two pieces.
CHATTER = """
import sys, time
for n in range(2000):
    sys.stdout.write(f"line {n} ")
    sys.stdout.write(f"of {sys.argv[1]}\\n")
time.sleep(600)
"""

PRELUDE = """
import sys
from ingest_client.output import Output
from ingest_client.process import Process
from ingest_client.supervisor import Supervisor

def process(name, code, **more):
    return Process(name, (sys.executable, "-c", code, name), **more)

def run(*tiers):
    output = Output(sys.stdout, [process.name for tier in tiers for process in tier])
    sys.exit(Supervisor(tiers, output).run(lambda: output.write("ready")))
"""


class Supervised:
    """A supervisor in a process of its own, with its output in a file."""

    def __init__(self, log: Path, script: str) -> None:
        self._log = log
        self.known: list[psutil.Process] = []
        names = f"{POLITE=}\n{STUBBORN=}\n{CARELESS=}\n{CHATTER=}\n"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PRELUDE + names + textwrap.dedent(script)],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        return self._log.read_text().splitlines()

    def wait_for(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self._log.read_text().count(text) >= times, what=f"{text} in {self.lines}")

    def family(self) -> list[psutil.Process]:
        """All its descendants, who are to be gone in the end."""
        self.known = psutil.Process(self.process.pid).children(recursive=True)
        return self.known

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ends(self) -> int:
        return self.process.wait(timeout=20)


@pytest.fixture
def supervised(tmp_path: Path) -> Iterator[type]:
    started: list[Supervised] = []

    class Here(Supervised):
        def __init__(self, script: str) -> None:
            super().__init__(tmp_path / f"log{len(started)}", script)
            started.append(self)

    yield Here
    for one in started:
        if one.process.poll() is None:
            one.family()
        one.process.kill()
        one.process.wait()
        for process in one.known:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def gone(processes: list[psutil.Process]) -> bool:
    return not any(is_alive(process) for process in processes)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_stops_all_in_order_and_leaves_none(supervised: type, number: signal.Signals) -> None:
    """The first tier, which the others need, stops last; the exit status says that it was asked for."""
    up = supervised('run([process("valkey", POLITE)], [process("web", POLITE), process("worker", POLITE)])')
    up.wait_for("ready")
    up.wait_for("runs", times=3)
    family = up.family()
    assert len(family) == 7  # three with a child each, and the guard
    up.send(number)
    assert up.ends() == 0
    assert gone(family)
    stops = [line.split("|")[0].strip() for line in up.lines if "stops" in line]
    assert sorted(stops[:2]) == ["web", "worker"]
    assert stops[2:] == ["valkey"]


def test_a_tier_waits_until_the_one_before_is_ready(supervised: type, tmp_path: Path) -> None:
    """Nothing is started that needs something which is not there yet."""
    flag = tmp_path / "flag"
    up = supervised(f"""
        from pathlib import Path
        flag = Path({str(flag)!r})
        run([process("valkey", POLITE, is_ready=flag.exists)], [process("web", POLITE)])
    """)
    up.wait_for("valkey runs")
    assert "web" not in "".join(up.lines)
    flag.touch()
    up.wait_for("web runs")
    assert up.process.poll() is None


def test_a_process_that_ends_at_its_start_ends_all(supervised: type) -> None:
    """Exit status 1, one line that names it, and nobody left."""
    up = supervised("""
        run([process("valkey", POLITE)], [process("web", "raise SystemExit(3)"), process("worker", POLITE)])
    """)
    family = wait_until(up.family)
    assert up.ends() == 1
    assert gone(family)
    assert [line for line in up.lines if "ended" in line] == [
        "web ended by itself (exit status 3); stopping the others."
    ]
    assert not any("Traceback" in line for line in up.lines)


def test_a_command_that_does_not_exist_ends_all(supervised: type) -> None:
    """As above, with the reason of the system."""
    up = supervised('run([process("valkey", POLITE)], [Process("web", ("/no/such/command",))])')
    assert up.ends() == 1
    assert any(line.startswith("web can't be started: ") for line in up.lines)
    assert not any("Traceback" in line for line in up.lines)


def test_a_process_that_dies_later_ends_all(supervised: type) -> None:
    """Killed from outside: the signal is named."""
    up = supervised('run([process("valkey", POLITE)], [process("web", STUBBORN), process("worker", POLITE)])')
    up.wait_for("runs", times=3)
    family = up.family()
    [web] = [process for process in family if process.cmdline()[-1:] == ["web"]]
    web.kill()
    assert up.ends() == 1
    assert gone(family)
    assert "web ended by itself (signal SIGKILL); stopping the others." in up.lines


def test_who_does_not_stop_in_time_is_killed(supervised: type) -> None:
    """The wait is bounded."""
    up = supervised('run([process("web", STUBBORN, stop_seconds=0.3)])')
    up.wait_for("runs")
    family = up.family()
    up.send(signal.SIGINT)
    assert up.ends() == 0
    assert gone(family)


def test_a_second_ctrl_c_hurries(supervised: type) -> None:
    """Who is waited for is killed at once; those who are asked after it still get their time."""
    up = supervised('run([process("valkey", POLITE)], [process("web", STUBBORN, stop_seconds=60)])')
    up.wait_for("runs", times=2)
    up.send(signal.SIGINT)
    up.wait_for("Ctrl-C again to hurry")
    up.send(signal.SIGINT)
    assert up.ends() == 0
    assert any("valkey stops" in line for line in up.lines)


def test_children_that_outlive_their_leader_are_killed(supervised: type) -> None:
    """The whole group goes, not only the process that was started."""
    up = supervised('run([process("web", CARELESS)])')
    up.wait_for("runs")
    family = up.family()
    assert any(process.name() == "sleep" for process in family)
    up.send(signal.SIGTERM)
    up.ends()
    wait_until(lambda: gone(family))


def test_no_process_survives_a_supervisor_that_was_killed(supervised: type) -> None:
    """SIGKILL can't be handled, so a guard that outlives the supervisor stops the others, in order too."""
    up = supervised('run([process("valkey", POLITE)], [process("web", CARELESS), process("worker", POLITE)])')
    up.wait_for("runs", times=3)
    family = up.family()
    up.send(signal.SIGKILL)
    up.ends()
    wait_until(lambda: gone(family), what=f"{family} to be gone")


def test_lines_are_whole_and_say_whose_they_are(supervised: type) -> None:
    """However two processes write at the same time, each line has one prefix, all prefixes one width."""
    up = supervised('run([process("web", CHATTER), process("worker", CHATTER)])')
    up.wait_for("line 1999 of", times=2)
    expected = {f"{name:<6} | line {n} of {name}" for name in ("web", "worker") for n in range(2000)}
    assert {line for line in up.lines if "line" in line} == expected
