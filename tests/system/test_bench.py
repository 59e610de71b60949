"""The benchmarks run, end by themselves, and count right. What is fast is not for a test to say."""

from __future__ import annotations

import json
import re
import time

import psutil

from bench import parse_files, parse_memory, parse_speed, publishing, relay_latency, relay_scale, vanishing
from bench.contenders import FLOOR_C, contenders
from bench.parse_figures import verdicts
from bench.scale_report import Opening, Point, Report, Setup, Standing
from bench.targets import FLOOR, PEER, SERVICE
from bench.window import Window

TIMES_IN_ORDER = ("p50_ms", "p90_ms", "p99_ms", "max_ms")


def test_relay_latency_counts_every_delivery(tmp_path, capsys):
    """Each viewer gets each event once, from each of the targets, and the report says so."""
    report = tmp_path / "report.json"
    before = psutil.Process().children(recursive=True)

    relay_latency.main(
        ["--viewers", "50", "--documents", "1", "10", "--seconds", "0.5", "--rounds", "1", "--json", str(report)]
    )

    assert "50 viewers, one document" in capsys.readouterr().out
    shared, spread = json.loads(report.read_text())["setups"]
    for setup, expected in ((shared, 5 * 50), (spread, 50 * 5)):
        targets = {target["target"]: target for target in setup["targets"]}
        assert list(targets) == [SERVICE, PEER, FLOOR]
        for target in targets.values():
            assert [window["delivered"] for window in target["windows"]] == [expected]
            assert [window["expected"] for window in target["windows"]] == [expected]
            for window in target["windows"]:
                times = [window[name] for name in TIMES_IN_ORDER]
                assert 0 < window["first_ms"] <= window["last_ms"] <= window["max_ms"]
                assert times == sorted(times)
                assert window["cpu_us"] > 0
        assert targets[SERVICE]["redis_connections"] < 10
        assert targets[PEER]["redis_connections"] >= 50
    assert psutil.Process().children(recursive=True) == before


def test_relay_scale_counts_every_delivery_of_whoever_is_installed(tmp_path, capsys):
    """Each stream gets each publication once, in both shapes; the tables, the figures and the plot say the same."""
    before = psutil.Process().children(recursive=True)

    relay_scale.main(
        ["--viewers", "30", "--rates", "600", "--rounds", "1", "--seconds", "0.3", "--unpinned", "--out", str(tmp_path)]
    )

    printed = capsys.readouterr().out
    report = json.loads((tmp_path / "relay.json").read_text())
    markdown, plot = (tmp_path / "relay.md").read_text(), (tmp_path / "relay.svg").read_text()
    installed = [contender.name for contender in contenders() if not contender.missing]
    assert SERVICE in installed
    assert len(installed) >= 2  # the floor is always there
    for standing, title in zip(report["standings"], ("one document", "one document each"), strict=True):
        assert [opening["target"] for opening in standing["openings"]] == installed
        assert [point["target"] for point in standing["points"]] == installed
        for point in standing["points"]:
            (window,) = point["windows"]
            assert window["delivered"] == window["expected"] == 180
            assert 0 < window["p50_ms"] <= window["p99_ms"] <= window["max_ms"]
            assert window["cpu_us"] > 0
        for told in (printed, markdown, plot):
            assert f"30 viewers, {title}" in told
    assert all(name in markdown and name in plot for name in installed)
    assert psutil.Process().children(recursive=True) == before


def test_a_publication_carries_its_own_number_and_the_time_at_which_it_is_made():
    """As long as its template, whatever bytes that holds; the reader finds the stamp."""
    sent: list[bytes] = []
    state = f'{{"at": "100%", "message": "{publishing.MARKED_MESSAGE}", "seq": {publishing.SEQ_MARK}}}'.encode()
    marked = publishing.publish_command(b"channel", state)
    write = publishing.Writer(sent.append, [("/a", marked)])

    began = time.monotonic_ns()
    write(["/a", "/a"])

    (both,) = sent
    assert len(both) == 2 * len(marked)
    first, second = re.findall(rb"written at (\d+) ns", both)
    assert began <= int(first) <= int(second) <= time.monotonic_ns()
    assert re.findall(rb'"seq": (\d+)', both) == [b"1000001", b"1000002"]
    assert both.count(b'"at": "100%"') == 2


def test_a_goal_is_met_by_the_figure_and_not_by_a_contender_that_is_not_there():
    """CPU against nchan and the floor; with nobody to compare with, there is no verdict."""
    setup = Setup(1000, 1, (30_000,))
    points = [Point(30_000, name, [a_window(cpu_us)], 0.5) for name, cpu_us in ((SERVICE, 12.0), (FLOOR_C, 8.0))]
    report = Report([Standing(setup, [Opening(SERVICE, 2_999, 300.0, 7.0, 2)], points)])
    assert [(goal.figure, goal.met) for goal in report.goals] == [
        ("CPU us per delivery", None),
        ("CPU us per delivery", True),
        ("KiB per open stream", True),
        ("streams opened per second", False),
        ("Redis connections", True),
    ]


def a_window(cpu_us: float) -> Window:
    return Window(1, 1, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, cpu_us, 0.1, 0.1)


def test_nothing_is_left_of_clients_that_are_killed(tmp_path, monkeypatch):
    """Streams, descriptors and subscriptions are all gone, and the measurement says which case it was."""
    monkeypatch.setattr(vanishing, "can_cut", lambda: False)
    found = vanishing.measure(contenders()[0], tmp_path / "site", viewers=20, heartbeat_seconds=15, most_seconds=20)
    assert found.how == vanishing.KILLED
    assert found.after_seconds is not None
    assert (found.last.streams, found.last.subscriptions) == (0, 0)


def test_parse_speed_measures_each_engine_on_the_same_file(tmp_path, capsys):
    """Every figure is there, and for each goal whether it was met."""
    (tmp_path / "prose.pdf").write_bytes(parse_files.prose(10))
    figures = parse_speed.measure(tmp_path / "prose.pdf", tmp_path, rounds=1)
    parse_speed.show([figures])
    assert figures.quality.pages == 10
    measured = [figures.loop_seconds, *figures.service_seconds.values()]
    assert [len(seconds) for seconds in measured] == [2, 1, 1, 1, 1]
    assert all(min(seconds) > 0 for seconds in measured)
    (one,) = figures.on_one
    assert 0 < one.reading_cpu_seconds < one.seconds
    assert one.other_cpu_seconds > 0
    assert len(figures.beyond_reading) == 1
    printed = capsys.readouterr().out
    for verdict in verdicts(figures):
        assert verdict.goal in printed
        assert verdict.measured in printed


def test_parse_memory_sees_each_process_within_its_bounds(tmp_path):
    """The child of the pool and the process that reads pages are looked at, and hold what the project promises."""
    memory = parse_memory.measure(250, tmp_path)
    for held in (memory.pool_child, memory.reader):
        assert 0 < held.own_bytes < held.resident_bytes < parse_memory.MOST_BYTES
    assert "250 pages with auto" in str(memory)
