"""Which finished jobs' records are over the history's limits (contract.md, Lifecycle: History).

Pure. The records of jobs that need nothing any more are in nobody's memory: how many there are, and
the oldest of them, is asked for when something may be due. The others are finished jobs whose pod
still stands; they count too.
"""

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from shared.messages import Record
from shared.settings import JobSubmission

BATCH = 5000
"""Records that are asked for, and deleted, at a time."""
PAUSE = timedelta(minutes=1)
"""Between two questions: each makes the API server list all records."""


class History:
    """When to ask, and what to forget."""

    def __init__(self, settings: JobSubmission, now: datetime) -> None:
        self._ttl = timedelta(seconds=settings.history_ttl_seconds)
        self._limit = settings.history_limit
        self._ask_at = now if self._ttl or self._limit else None

    def due(self) -> datetime | None:
        """When to ask for the records; None: never."""
        return self._ask_at

    def asked(self, now: datetime) -> None:
        """It was asked: if no answer comes, ask again."""
        self._ask_at = now + PAUSE

    def over(
        self, total: int, oldest: Sequence[Record], standing: Iterable[Record], now: datetime
    ) -> list[Record]:
        """What is to be forgotten, the oldest first.

        `total` and `oldest` are of the records alone, `standing` are the finished jobs with a pod.
        """
        finished = list(standing)
        first = heapq.nsmallest(BATCH, [*oldest, *finished], key=lambda record: record.finish_time)
        surplus = total + len(finished) - self._limit if self._limit else 0
        return [
            record
            for place, record in enumerate(first)
            if place < surplus or (self._ttl and record.finish_time + self._ttl <= now)
        ]
