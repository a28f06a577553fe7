"""A clock that a test advances."""

import asyncio
from datetime import datetime, timedelta

from tests.fakes.facts import START


class ManualClock:
    """A clock whose time the test sets. Its `sleep` returns almost at once, and takes none of its time."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        """Return the current time."""
        return self.time

    def monotonic(self) -> float:
        """Return the current time in seconds."""
        return self.time.timestamp()

    def advance(self, by: timedelta) -> None:
        """Advance the time."""
        self.time += by

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - only `advance` changes the time
        """Let other tasks run."""
        await asyncio.sleep(0.01)
