"""When to connect again, and when to give up. Pure: time and chance are arguments."""

from __future__ import annotations

from dataclasses import dataclass

#: Added at random, as a share of the wait, so that clients that were cut off together don't come back together.
JITTER = 0.5

#: A failure is never followed at once by the next attempt, whatever the server asked for.
SHORTEST_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ReconnectPolicy:
    """``patience_seconds``: how long to go on without reaching the server. ``longest_seconds``: the longest wait."""

    patience_seconds: float = 120.0
    longest_seconds: float = 15.0

    def delay_seconds(self, retry_seconds: float, fruitless: int, chance: float) -> float:
        """How long to wait before the next attempt.

        ``retry_seconds`` is what the server asked for, the least that is waited; ``fruitless`` counts the connections
        in a row that brought no event, and doubles the wait; ``chance`` is a random number from 0 to 1.
        """
        delay = retry_seconds
        if fruitless:
            doubled = max(retry_seconds, SHORTEST_SECONDS) * 2.0 ** min(fruitless - 1, 30)
            delay = max(retry_seconds, min(doubled, self.longest_seconds))
        return delay * (1 + JITTER * chance)

    def remaining_seconds(self, unreached_seconds: float) -> float:
        """What is left of the patience; 0 when it is over."""
        return max(0.0, self.patience_seconds - unreached_seconds)
