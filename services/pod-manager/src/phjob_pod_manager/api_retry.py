"""Requests to the API server, repeated until the answer is definite.

A write without an answer may be carried out at any later time. Without the repetition, it could overwrite
the result of a later decision (design/consistency.md, The fence).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from phjob_core.backoff import Backoff
from phjob_core.errors import UnreachableError
from phjob_pod_manager import metrics
from phjob_runtime.clock import Clock
from phjob_runtime.retry import retry_delay

T = TypeVar("T")

MAX_CONCURRENT_REQUESTS = 32
RETRY_BACKOFF = Backoff(first=0.15, longest=3.75, jitter=1 / 3)
"""The delay before a request is repeated: between 0.1 and 0.2 s at first, between 2.5 and 5 s at most."""

_log = structlog.get_logger()


class ApiRetrier:
    """Repeats requests without a definite answer; at most `MAX_CONCURRENT_REQUESTS` run at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)
        self.failure = ""
        """The error of the latest attempt, if it had no definite answer; otherwise empty."""

    async def retry_until_definite(
        self, request: Callable[[], Awaitable[T]], operation: str, max_attempts: int = 0
    ) -> T:
        """Repeat the request until the answer is definite, and return that answer.

        `operation` names the request in logs and metrics. `max_attempts` bounds the attempts of a request
        whose outcome nothing depends on; 0 means no bound.

        Raises:
            RejectedError: the definite answer is a rejection.
            UnreachableError: none of the `max_attempts` had a definite answer.

        """
        attempt = 0
        while True:
            try:
                async with self._slots:
                    answer = await request()
            except UnreachableError as error:
                attempt += 1
                self.failure = str(error)
                metrics.request_retried(operation)
                _log.warning("request_retried", operation=operation, attempt=attempt, error=str(error))
                if max_attempts and attempt >= max_attempts:
                    raise
                await self._clock.sleep(retry_delay(RETRY_BACKOFF, attempt))
            else:
                self.failure = ""
                return answer
