"""Clocks for tests: time passes only when the test says so, and waiting does not take it."""

import asyncio
from datetime import UTC, datetime, timedelta


class StillClock:
    """The same moment until `advance`; whoever sleeps goes on at once."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        """The moment."""
        return self._now

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - time is the test's
        """Let the others have a turn."""
        await asyncio.sleep(0.01)
