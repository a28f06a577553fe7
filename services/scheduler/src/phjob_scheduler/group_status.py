"""The reports on PhGroups: when a status is due, and what it is (spec.md, E1). Pure.

A report is due `REPORT_DELAY` after a change, but not within `MIN_REPORT_INTERVAL` of the last one. Without
that interval, a group whose jobs are short costs half a write more for each job. A report is sent only if it
differs from the last one.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import count

from phjob_core.api import Phase
from phjob_core.messages import GroupSeen, ReportGroupStatus
from phjob_core.scheduling.engine import SchedulingEngine
from phjob_core.timers import Timers

REPORT_DELAY = timedelta(seconds=1)
"""The time from a change to the report, which includes all changes until then."""
MIN_REPORT_INTERVAL = timedelta(seconds=5)
"""The minimum time between two reports on a group."""


class GroupStatusReporter:
    """The groups whose reports are due, by their label value, and the last reports on each group."""

    def __init__(self) -> None:
        self._timers = Timers()
        self._scheduled: set[str] = set()
        self._last: dict[str, tuple[datetime, Sequence[ReportGroupStatus]]] = {}
        """The last reports on the PhGroups of each group, and when they were sent."""
        self._snapshot_place = ""
        self._numbers = count()

    def begin(self, place: str) -> None:
        """Order all further reports after those of earlier sessions.

        `place`: that of the session's snapshot.
        """
        self._snapshot_place = place

    def schedule(self, group: str, now: datetime) -> None:
        """Schedule a report on the group, because it has changed."""
        if group not in self._scheduled:
            self._scheduled.add(group)
            due, last = now + REPORT_DELAY, self._last.get(group)
            self._timers.set(group, max(due, last[0] + MIN_REPORT_INTERVAL) if last else due)

    def next_report(self) -> datetime | None:
        """Return when the next report is due; None if none is scheduled."""
        return self._timers.due()

    def forget(self, group: str) -> None:
        """Discard the last reports on a group that has no PhGroup."""
        self._last.pop(group, None)

    def due_reports(
        self, now: datetime, reports_on: Callable[[str], Sequence[ReportGroupStatus]]
    ) -> Iterator[ReportGroupStatus]:
        """Yield each report that is due and differs from the last one on its PhGroup."""
        for group in self._timers.take(now):
            self._scheduled.discard(group)
            reports = reports_on(group)
            _, last = self._last.get(group, (now, ()))
            changed = [report for report in reports if report not in last]
            if changed:
                self._last[group] = now, reports
            for report in changed:
                place = f"{self._snapshot_place}/{next(self._numbers):010d}"
                yield report.model_copy(update={"place": place})


def reports_on_group(engine: SchedulingEngine, label: str) -> Sequence[ReportGroupStatus]:
    """Return the status of each PhGroup of the group with this label value."""
    groups = engine.catalog.groups
    return [
        _report_on_queue(engine, label, seen) if groups.counts(seen) else _report_refusal(engine, seen)
        for seen in groups.with_label(label)
    ]


def _report_refusal(engine: SchedulingEngine, group: GroupSeen) -> ReportGroupStatus:
    """Return the status of a PhGroup that does not count: no jobs, and the reason."""
    message = f"refused: {engine.catalog.groups.refusal(group.group, group.name)}"
    return ReportGroupStatus(uid=group.uid, name=group.name, group=group.group, place="", message=message)


def _report_on_queue(engine: SchedulingEngine, label: str, group: GroupSeen) -> ReportGroupStatus:
    """Return the status of the PhGroup that counts."""
    phases = engine.phases.get(label, Counter())
    queue = engine.queues.get(label)
    head = queue.head() if queue else None
    why_head_waits = queue.pending_reason(head)[1] if queue and head else ""
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
        default_limits=dict(engine.catalog.default_limits),
        gpu_resource_names=engine.gpus.own_patterns,
        head=engine.name_of(head) if head else "",
        waiting_pods=engine.gated_pods.count_waiting(label),
        notebooks=engine.notebooks,
        message=f"unusable: {group.invalid}" if group.invalid else why_head_waits,
    )
