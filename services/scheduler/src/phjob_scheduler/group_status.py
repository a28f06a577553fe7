"""The reports on groups: when a group's status is due, and what it is (spec.md, E1). Pure.

A report is due `REPORT_DELAY` after a change, but not within `MIN_REPORT_INTERVAL` of the last one. Without
that interval, a group whose jobs are short costs half a write more for each job. A report is sent only if it
differs from the last one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import count

from phjob_core.api import Phase
from phjob_core.messages import ReportGroupStatus
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.timers import Timers

REPORT_DELAY = timedelta(seconds=1)
"""The time from a change to the report, which includes all changes until then."""
MIN_REPORT_INTERVAL = timedelta(seconds=5)
"""The minimum time between two reports on a group."""


class GroupStatusReporter:
    """The groups whose report is due, by their label value, and the last report on each group."""

    def __init__(self) -> None:
        self._timers = Timers()
        self._scheduled: set[str] = set()
        self._last: dict[str, tuple[datetime, ReportGroupStatus]] = {}
        """The last report on each group, and when it was sent."""
        self._snapshot_place = ""
        self._numbers = count()

    def begin(self, place: str) -> None:
        """Order all further reports after those of earlier sessions.

        `place`: that of the session's snapshot.
        """
        self._snapshot_place = place

    def schedule(self, groups: Iterable[str], now: datetime) -> None:
        """Schedule a report on each of these groups, because they have changed."""
        for group in groups:
            if group not in self._scheduled:
                self._scheduled.add(group)
                due, last = now + REPORT_DELAY, self._last.get(group)
                self._timers.set(group, max(due, last[0] + MIN_REPORT_INTERVAL) if last else due)

    def next_report(self) -> datetime | None:
        """Return when the next report is due; None if none is scheduled."""
        return self._timers.due()

    def due_reports(
        self, now: datetime, report_on: Callable[[str], ReportGroupStatus | None]
    ) -> Iterator[ReportGroupStatus]:
        """Yield each report that is due and differs from the last one on its group."""
        for group in self._timers.take(now):
            self._scheduled.discard(group)
            report, last = report_on(group), self._last.get(group)
            if report is None:
                self._last.pop(group, None)
            elif last is None or report != last[1]:
                self._last[group] = now, report
                place = f"{self._snapshot_place}/{next(self._numbers):010d}"
                yield report.model_copy(update={"place": place})


def report_on_group(engine: SchedulingEngine, label: str) -> ReportGroupStatus | None:
    """Return the status of the group with this label value; None if it has no PhGroup."""
    group = engine.catalog.groups.get(engine.group_names.get(label, ""))
    if group is None:
        return None
    phases = engine.phases.get(label, Counter())
    queue = engine.queues.get(label)
    head = queue.head() if queue else None
    used = {name: amount for name, amount in queue.ledger.group_usage.items() if amount} if queue else {}
    return ReportGroupStatus(
        uid=group.uid,
        name=group.name,
        group=group.group,
        place="",
        pending=phases.get(Phase.PENDING, 0),
        preparing=phases.get(Phase.PREPARING, 0),
        running=phases.get(Phase.RUNNING, 0),
        used=used,
        limit=dict(group.group_quota),
        head=engine.jobs[head].seen.name if head else "",
        message=queue.pending_reason(head)[1] if queue and head else "",
    )
