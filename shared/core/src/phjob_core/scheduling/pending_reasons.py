"""The times at which a waiting job's pending reason is written (spec.md, Q6). Pure.

Only a job that blocks its user or its group, or that cannot be admitted for a reason of its own, gets such a
reason: one second after that began, and at most every ten seconds. When it is over, the reason becomes
`Queued` again. All writes of a shard are at least 250 ms apart, so that a thousand blocked users cause no
burst of writes.
"""

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from phjob_core.api import Reason

MIN_BLOCKED_TIME = timedelta(seconds=1)
"""A job that blocks for a shorter time costs no write."""
RECHECK_INTERVAL = timedelta(seconds=10)
"""The time between two checks of one job."""
MIN_INTERVAL_BETWEEN_WRITES = timedelta(seconds=0.25)
"""The time between two writes, of any jobs."""

PendingReason = tuple[str, str]
"""A pending reason and its message."""


class PendingReasons:
    """The schedule of checks of pending reasons."""

    def __init__(self) -> None:
        self._checks: list[tuple[datetime, str]] = []
        """A heap of the watched jobs, each with the time of its next check."""
        self._watched: set[str] = set()
        self._not_before: datetime | None = None
        """The earliest time of the next write."""

    def watch(self, uid: str, now: datetime) -> None:
        """Schedule checks of a job that blocks, or whose status has the reason of a job that does."""
        if uid not in self._watched:
            self._watched.add(uid)
            heapq.heappush(self._checks, (now + MIN_BLOCKED_TIME, uid))

    def next_wakeup(self) -> datetime | None:
        """Return the time of the next check; None if no job is watched."""
        if not self._checks:
            return None
        at = self._checks[0][0]
        return max(at, self._not_before) if self._not_before else at

    def due_changes(
        self, now: datetime, reasons_of: Callable[[str], tuple[PendingReason, PendingReason] | None]
    ) -> Iterator[tuple[str, PendingReason]]:
        """Check the jobs that are due. Yields those whose reason must be written, with the new reason.

        `reasons_of` returns a job's written reason and its current one; None if the job no longer waits.
        """
        while (at := self.next_wakeup()) and at <= now:
            _, uid = heapq.heappop(self._checks)
            reasons = reasons_of(uid)
            if reasons is None:
                self._watched.discard(uid)
                continue
            written, current = reasons
            if current[0] == Reason.QUEUED or (written == current and current[0] == Reason.SUSPENDED):
                self._watched.discard(uid)  # Only a new fact about the job can change its reason.
            else:
                heapq.heappush(self._checks, (now + RECHECK_INTERVAL, uid))
            if written != current and not _keeps_requeue_message(written, current):
                self._not_before = now + MIN_INTERVAL_BETWEEN_WRITES
                yield uid, current


def _keeps_requeue_message(written: PendingReason, current: PendingReason) -> bool:
    """Return whether the message of a requeue or a retry stays, because the job does not block."""
    return current[0] == Reason.QUEUED and written[0] in (Reason.REQUEUED, Reason.RETRIED)
