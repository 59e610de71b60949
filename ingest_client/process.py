"""A process to run, as a value: what to start, how to tell that it is ready, how long it may take to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Process:
    """``environment`` is added to our own. ``is_ready`` answers quickly. After SIGTERM it has ``stop_seconds``."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    is_ready: Callable[[], bool] = lambda: True
    stop_seconds: float = 10.0
