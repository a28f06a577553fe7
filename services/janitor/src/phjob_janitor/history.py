"""The limits of the history: which finished jobs are deleted (spec.md, L11). Pure.

No service keeps reclaimed jobs in memory. The janitor requests their number, and the oldest of them, when
some may be over the limits. Finished jobs that still have a pod count as well.
"""

import heapq
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from phjob_core.messages import FinishedJob
from phjob_runtime.settings import JobSubmission

MAX_JOBS_PER_REQUEST = 5000
"""The number of reclaimed jobs that one request asks for, and of jobs that are deleted after it."""
REQUEST_INTERVAL = timedelta(minutes=1)
"""The time between two requests. For each, the API server has to list all reclaimed jobs."""


class History:
    """The history's limits, and the time of the next request."""

    def __init__(self, settings: JobSubmission, now: datetime) -> None:
        self._ttl = timedelta(seconds=settings.history_ttl_seconds)
        self._limit = settings.history_limit
        self._next_request = now if self._ttl or self._limit else None

    def next_request(self) -> datetime | None:
        """Return when to request the oldest reclaimed jobs; None if there is no limit."""
        return self._next_request

    def mark_requested(self, now: datetime) -> None:
        """Schedule the next request. It also replaces a request that gets no answer."""
        self._next_request = now + REQUEST_INTERVAL

    def expired(
        self, total: int, oldest: Sequence[FinishedJob], with_pods: Iterable[FinishedJob], now: datetime
    ) -> list[FinishedJob]:
        """Return the jobs to delete, oldest first.

        `total` and `oldest` concern the reclaimed jobs only. `with_pods` are the finished jobs with a pod.
        """
        unreclaimed = list(with_pods)
        first = heapq.nsmallest(
            MAX_JOBS_PER_REQUEST, [*oldest, *unreclaimed], key=lambda job: job.finish_time
        )
        surplus = total + len(unreclaimed) - self._limit if self._limit else 0
        return [
            job
            for index, job in enumerate(first)
            if index < surplus or (self._ttl and job.finish_time + self._ttl <= now)
        ]
