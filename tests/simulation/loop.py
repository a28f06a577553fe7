"""An event loop whose time is simulated: it passes only when there is nothing left to do.

There is no input or output and no thread, so a run depends on nothing but the program and its seed.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
"""When every simulation begins."""


class NothingToDoError(Exception):
    """Everybody waits for something that will never come."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """asyncio's own loop, with a selector that does not wait but lets the time pass."""

    def __init__(self) -> None:
        super().__init__()
        self._simulated = 0.0
        self._selector = self

    def time(self) -> float:
        """Seconds since the simulation began."""
        return self._simulated

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass until the next timer."""
        if timeout is None:
            raise NothingToDoError
        self._simulated += timeout
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no events from outside."""

    def _write_to_self(self) -> None:
        """Do nothing: nobody has to be woken up."""


def moment(seconds: float) -> datetime:
    """The time of day so many seconds after the beginning."""
    return EPOCH + timedelta(seconds=seconds)


def rfc3339(seconds: float) -> str:
    """The same as Kubernetes writes it: in whole seconds."""
    return moment(seconds).strftime("%Y-%m-%dT%H:%M:%SZ")
