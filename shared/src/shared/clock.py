"""The port to time: what a handler may know of it.

Handlers get a `Clock` passed in and never ask the machine themselves, so that a test or a
simulation can decide what time it is.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

TOLERANCE = 2.0
"""Seconds that the time of day may be put forward at once: NTP's small corrections."""

_log = structlog.get_logger()


class Clock(Protocol):
    """The time of day, and waiting for it to pass."""

    def now(self) -> datetime:
        """The time of day, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


def _since_boot() -> float:
    """Seconds since the machine started, those in which it was suspended included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SystemClock:
    """The machine's own clock, but never faster than time really passes.

    A time of day that is put forward (a bad NTP answer, an administrator's slip) would end jobs
    before their time. So it counts only as far as the time since this process started has really
    passed; one that is put back counts at once. What is then late is right again after a restart.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = _since_boot
    ) -> None:
        """`wall` and `elapsed` are the machine's, in seconds."""
        self._wall = wall
        self._elapsed = elapsed
        self._start = wall() - elapsed()
        self._jumped = False

    def now(self) -> datetime:
        """The time of day, in UTC."""
        wall, passed = self._wall(), self._start + self._elapsed()
        ahead = wall - passed
        if 0 < ahead <= TOLERANCE:
            self._start += ahead
        if self._jumped != (ahead > TOLERANCE):
            self._jumped = not self._jumped
            _log.warning("clock_jumped" if self._jumped else "clock_is_right_again", seconds=round(ahead, 1))
        return datetime.fromtimestamp(wall if ahead <= TOLERANCE else passed, UTC)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)
