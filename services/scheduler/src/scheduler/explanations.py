"""When to tell a waiting job why it waits (contract.md, Queueing 6).

Only jobs that decide are told, once they have decided for a second, and then at most every ten;
one that decides no more is told that it is queued. However many decide, in many groups or of many
users, few are told at a time. Pure: what to say comes from `queue`.
"""

import heapq
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

from shared.phjob import Reason

PATIENCE = timedelta(seconds=1)
"""A head that waits less is not worth a write."""
INTERVAL = timedelta(seconds=10)
"""Between two looks at one job."""
APART = timedelta(seconds=0.25)
"""Between two that are told: each is a write."""

Said = tuple[str, str]
"""Reason and message."""


class Explanations:
    """The jobs that are being watched for what to tell them, each with its next time."""

    def __init__(self) -> None:
        self._due: list[tuple[datetime, str]] = []
        self._watched: set[str] = set()
        self._not_before: datetime | None = None
        """When the next one may be told."""

    def watch(self, uid: str, now: datetime) -> None:
        """The job decides now, or was told so before: look at it in a while."""
        if uid not in self._watched:
            self._watched.add(uid)
            heapq.heappush(self._due, (now + PATIENCE, uid))

    def due(self) -> datetime | None:
        """When to look at the next one."""
        if not self._due:
            return None
        at = self._due[0][0]
        return max(at, self._not_before) if self._not_before else at

    def tell(
        self, now: datetime, why: Callable[[str], tuple[Said, Said] | None]
    ) -> Iterator[tuple[str, Said]]:
        """Each job that must be told something new, and what.

        `why` gives what a job reads now and what it should read; None: it waits no more.
        """
        while (due := self.due()) and due <= now:
            _, uid = heapq.heappop(self._due)
            answer = why(uid)
            if answer is None:
                self._watched.discard(uid)
                continue
            reads, should = answer
            if should[0] == Reason.QUEUED:
                self._watched.discard(uid)
            else:
                heapq.heappush(self._due, (now + INTERVAL, uid))
            if reads != should and not _keeps_requeue_message(reads, should):
                self._not_before = now + APART
                yield uid, should


def _keeps_requeue_message(reads: Said, should: Said) -> bool:
    """A requeued job that decides nothing goes on saying why it was requeued."""
    return should[0] == Reason.QUEUED and reads[0] == Reason.REQUEUED
