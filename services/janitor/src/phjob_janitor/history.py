"""The history: when the janitor requests the jobs over its limits, and how fast it deletes them. Pure.

The watcher reads the finished jobs, and answers with those that are over a limit of their group
(`phjob_core.history`).
"""

from collections import deque
from datetime import datetime, timedelta

from phjob_core.messages import FinishedJob, HistoryLimits, HistoryPage
from phjob_runtime.settings import JobSubmission

MAX_JOBS_PER_REQUEST = 5000
"""The number of jobs that one request asks for, and that are deleted after it."""
REQUEST_INTERVAL = timedelta(minutes=1)
"""The time between two requests. For each, the API server has to list all reclaimed jobs."""
MAX_NEVER_RAN = 1000
"""The number of jobs of a group that are kept although they never ran (spec.md, L11).

Without this limit, a user who submits jobs that cannot run could fill etcd with their records.
"""
DELETIONS_PER_BATCH = 50
BATCH_INTERVAL = timedelta(seconds=0.25)
"""The time between two batches of deletions.

pod-manager has a bounded number of requests in flight. Without the pauses, the admissions of all groups would
wait behind thousands of deletions.
"""


class History:
    """The history's limits, the time of the next request, and the jobs that are still to be deleted."""

    def __init__(self, settings: JobSubmission, now: datetime) -> None:
        self._ttl = timedelta(seconds=settings.history_ttl_seconds)
        self._count = settings.history_limit
        self._never_ran_ttl = timedelta(seconds=settings.never_ran_ttl_seconds)
        has_limit = self._ttl or self._count or self._never_ran_ttl
        self._next_request = now if has_limit else None
        self._number = 0
        """The number of the latest request."""
        self._to_delete: deque[FinishedJob] = deque()
        self._next_batch = now

    def next_wakeup(self) -> datetime | None:
        """Return when the next request or batch is due; None if there is no limit."""
        return self._next_batch if self._to_delete else self._next_request

    def take_request(self, now: datetime) -> tuple[int, HistoryLimits] | None:
        """Return the number and the limits of a request, if one is due.

        The next one also replaces a request that gets no answer.
        """
        if self._to_delete or self._next_request is None or now < self._next_request:
            return None
        self._next_request = now + REQUEST_INTERVAL
        self._number += 1
        short = min((ttl for ttl in (self._never_ran_ttl, self._ttl) if ttl), default=self._ttl)
        return self._number, HistoryLimits(
            finished_before=now - self._ttl if self._ttl else None,
            count=self._count,
            never_ran_before=now - short if short else None,
            never_ran_count=MAX_NEVER_RAN if self._never_ran_ttl else self._count,
        )

    def on_page(self, page: HistoryPage, now: datetime) -> None:
        """Start to delete the jobs of the answer to the latest request. An older answer is ignored."""
        if page.request != self._number or self._next_request is None:
            return
        self._to_delete = deque(page.over_limit)
        self._next_batch = now
        if len(page.over_limit) >= MAX_JOBS_PER_REQUEST:
            self._next_request = now  # There may be more.

    def take_deletions(self, now: datetime) -> list[FinishedJob]:
        """Return the jobs to delete now."""
        if now < self._next_batch:
            return []
        self._next_batch = now + BATCH_INTERVAL
        size = min(DELETIONS_PER_BATCH, len(self._to_delete))
        return [self._to_delete.popleft() for _ in range(size)]
