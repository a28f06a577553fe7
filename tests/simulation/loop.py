"""An event loop with simulated time, which advances only when no task can run.

The loop does no input or output, and runs no threads. A run therefore depends only on the code and the seed.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""The time of day at which every simulation begins."""


class DeadlockError(Exception):
    """Every task waits, and no timer is set."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """asyncio's own loop, with a selector that advances the time instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self._simulated = 0.0
        self._selector = self

    def time(self) -> float:
        """Return the seconds since the beginning of the simulation."""
        return self._simulated

    def select(self, timeout: float | None) -> list[Any]:
        """Advance the time to the next timer."""
        if timeout is None:
            raise DeadlockError
        self._simulated += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing, because the selector returns no events."""

    def _write_to_self(self) -> None:
        """Do nothing, because no other thread has to wake the loop."""


def time_of_day(seconds: float) -> datetime:
    """Return the time of day, so many seconds after the beginning of the simulation."""
    return EPOCH + timedelta(seconds=seconds)


def rfc3339(seconds: float) -> str:
    """Return the same as Kubernetes writes it: in whole seconds."""
    return time_of_day(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(timestamp: str) -> float:
    """Return a timestamp of Kubernetes in seconds since the simulation began."""
    return (datetime.fromisoformat(timestamp) - EPOCH).total_seconds()
