"""When to tell how a group stands, and what (contract.md, Custom resources, PhGroup).

A group that has changed is told of a second later, so at most once a second, and only if what is to be
said differs from what was said last. Pure: what is so comes from `admission`.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count

from scheduler.admission import Admission
from shared.messages import ReportGroup
from shared.phjob import Phase

INTERVAL = timedelta(seconds=1)
"""From a change to the report of it, which holds all other changes until then."""


class Reports:
    """The groups, by label value, of which something new is to be told, each with its time."""

    def __init__(self) -> None:
        self._due: list[tuple[datetime, str]] = []
        self._watched: set[str] = set()
        self._told: dict[str, ReportGroup] = {}
        self._snapshot = ""
        self._numbers = count()

    def begin(self, place: str) -> None:
        """What is told from here on follows on the snapshot of that place, and so on all of before it."""
        self._snapshot = place

    def watch(self, groups: Iterable[str], now: datetime) -> None:
        """These have changed."""
        for group in groups:
            if group not in self._watched:
                self._watched.add(group)
                heapq.heappush(self._due, (now + INTERVAL, group))

    def due(self) -> datetime | None:
        """When the next one is to be told of."""
        return self._due[0][0] if self._due else None

    def tell(self, now: datetime, report_of: Callable[[str], ReportGroup | None]) -> Iterator[ReportGroup]:
        """Each report that is due and says something new."""
        while self._due and self._due[0][0] <= now:
            _, group = heapq.heappop(self._due)
            self._watched.discard(group)
            report = report_of(group)
            if report is None:
                self._told.pop(group, None)
            elif report != self._told.get(group):
                self._told[group] = report
                yield report.model_copy(update={"place": f"{self._snapshot}/{next(self._numbers):010d}"})


def report(mind: Admission, label: str) -> ReportGroup | None:
    """How the group of that label value stands; None if it has no PhGroup."""
    seen = mind.catalog.groups.get(mind.group_names.get(label, ""))
    if seen is None:
        return None
    phases = mind.phases.get(label, Counter())
    queue = mind.groups.get(label)
    head = queue.head() if queue else None
    return ReportGroup(
        uid=seen.uid,
        name=seen.name,
        group=seen.group,
        place="",
        pending=phases.get(Phase.PENDING, 0),
        preparing=phases.get(Phase.PREPARING, 0),
        running=phases.get(Phase.RUNNING, 0),
        used={name: amount for name, amount in queue.ledger.group.items() if amount} if queue else {},
        limit=dict(seen.group_quota),
        head=mind.jobs[head].seen.name if head else "",
        message=queue.why(head)[1] if queue and head else "",
    )
