"""Requests whose outcome must be known: repeated until the API server's answer is definite.

Why: ARCHITECTURE.md, The fence, 1. A write that was not answered may still be done, even later; one
that is repeated until it is done or refused can't surprise anybody.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from pod_manager import metrics
from shared.clock import Clock
from shared.errors import UnreachableError

T = TypeVar("T")

AT_ONCE = 32
"""Requests under way at a time."""
LONGEST_PAUSE = 5.0
"""Seconds between two tries, at most."""

_log = structlog.get_logger()


class Writer:
    """Repeats requests, a bounded number at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.failing = ""
        """Why the last request had no definite answer; empty if it had one."""

    async def definite(self, request: Callable[[], Awaitable[T]], what: str, tries: int = 0) -> T:
        """The answer to the request, which is made again until there is a definite one.

        With `tries`, that often at most: for requests of which nothing depends on the outcome.

        Raises:
            RefusedError: the definite answer is no.
            UnreachableError: there was none in `tries`.

        """
        attempt = 0
        while True:
            try:
                async with self._slots:
                    answer = await request()
            except UnreachableError as error:
                attempt += 1
                self.failing = str(error)
                metrics.repeated(what)
                _log.warning("request_repeated", what=what, attempt=attempt, why=str(error))
                if tries and attempt >= tries:
                    raise
                pause = min(0.1 * 2 ** min(attempt, 8), LONGEST_PAUSE) * random.uniform(0.5, 1)  # noqa: S311 - jitter
                await self._clock.sleep(pause)
            else:
                self.failing = ""
                return answer
