"""The port to time.

Handlers take a `Clock` as an argument and never use the machine's clock, so that a test or a simulation
controls the time.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

MAX_CORRECTION_SECONDS = 2.0
"""The greatest step forward of the time of day that counts at once. NTP's corrections are smaller."""

_log = structlog.get_logger()


class Clock(Protocol):
    """The time of day, durations, and sleep."""

    def now(self) -> datetime:
        """Return the time of day in UTC, for times that others have written or will read."""
        ...

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment, for durations. They never decrease."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


def _since_boot() -> float:
    """Return the seconds since the machine started, including any suspension."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class SystemClock:
    """The machine's clock, but never faster than time passes.

    Without this limit, a time of day that is put forward would end jobs early (spec.md, L15). The cause can
    be a bad NTP answer, or an administrator's mistake. A time of day that is put back counts at once. A
    clock that is slow as a result is corrected by a restart.
    """

    def __init__(
        self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = _since_boot
    ) -> None:
        """Take the machine's time of day and the time since its start, both in seconds."""
        self._wall = wall
        self._elapsed = elapsed
        self._start = wall() - elapsed()
        self._is_ahead = False

    def now(self) -> datetime:
        """Return the time of day in UTC."""
        wall, passed = self._wall(), self._start + self._elapsed()
        ahead = wall - passed
        if 0 < ahead <= MAX_CORRECTION_SECONDS:
            self._start += ahead
        if self._is_ahead != (ahead > MAX_CORRECTION_SECONDS):
            self._is_ahead = not self._is_ahead
            event = "clock_jump_detected" if self._is_ahead else "clock_corrected"
            _log.warning(event, seconds=round(ahead, 1))
        return datetime.fromtimestamp(wall if ahead <= MAX_CORRECTION_SECONDS else passed, UTC)

    def monotonic(self) -> float:
        """Return the seconds since the machine started, including any suspension."""
        return self._elapsed()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)


class SteadyClock:
    """The time of day at its creation, plus the time that has passed since.

    Timers use it. Without it, a time of day that is put back by an hour would stall them for an hour.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin, self._origin_monotonic = clock.now(), clock.monotonic()

    def now(self) -> datetime:
        """Return the time of day, as if the clock had not been set since."""
        return self._origin + timedelta(seconds=self._clock.monotonic() - self._origin_monotonic)

    def monotonic(self) -> float:
        """Return the seconds since a fixed moment."""
        return self._clock.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await self._clock.sleep(seconds)
