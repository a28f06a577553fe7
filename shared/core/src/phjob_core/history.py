"""The limits of the history: which finished jobs are deleted (spec.md, L11). Pure.

The number of records has no bound that PhJob could rely on. So a record is added, and forgotten at once if
it is deleted or stays for sure. Only the newest of each group are held, as few bytes each.
"""

import heapq
from collections.abc import Container, Iterator
from datetime import datetime
from typing import NamedTuple

from phjob_core.messages import FinishedJob, HistoryLimits, JobSeen


class Record(NamedTuple):
    """A finished job, as compact as possible. Records are compared by their finish time."""

    finish_time: datetime
    uid: str
    name: str
    group: str
    fence: str


def record_of(job: JobSeen) -> Record | None:
    """Return the record of a job; None if it is not finished, or is being deleted already."""
    if not job.phase.final or job.finish_time is None or job.deleting:
        return None
    return Record(job.finish_time, job.uid, job.name, job.group, job.fence)


class HistorySelection:
    """The records that are over a limit, among those that were added."""

    def __init__(self, limits: HistoryLimits, most: int, groups: Container[str]) -> None:
        """`most` bounds the number of records that are selected. `groups` are the names of all PhGroups."""
        self._most = most
        self._groups = groups
        self._ran = limits.finished_before, limits.count
        self._never_ran = limits.never_ran_before, limits.never_ran_count
        self._newest: dict[tuple[str, bool], list[Record]] = {}
        """A heap of the newest records of each group, by its name and whether they never ran."""
        self._selected: list[Record] = []
        """The records over a limit."""

    def add(self, record: Record, *, never_ran: bool) -> None:
        """Add a record. A job that never ran was never admitted.

        Those of all groups without a PhGroup count as one group. Otherwise a user who invents names of groups
        could keep as many records as the namespace may have.
        """
        before, count = self._never_ran if never_ran else self._ran
        if before and record.finish_time < before:
            self._select(record)
        elif count:
            group = "" if never_ran and record.group not in self._groups else record.group
            newest = self._newest.setdefault((group, never_ran), [])
            if len(newest) < count:
                heapq.heappush(newest, record)
            else:
                self._select(heapq.heappushpop(newest, record))

    def selected(self) -> Iterator[FinishedJob]:
        """Yield the oldest of the records over a limit, the oldest first."""
        for record in heapq.nsmallest(self._most, self._selected):
            yield FinishedJob(**record._asdict())

    def _select(self, record: Record) -> None:
        self._selected.append(record)
        # Without this, a history that is far over its limits would be held as a whole.
        if len(self._selected) > 2 * self._most:
            self._selected = heapq.nsmallest(self._most, self._selected)
