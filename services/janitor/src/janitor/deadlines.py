"""When a job is over time, and what is to be done then (contract.md, Queueing 5 and Lifecycle).

Pure: a job's phase and times, its group's default, its node and the settings give one deadline at most.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from shared.messages import GiveUp, JobSeen, Order, Reclaim, Requeue, TimeOut
from shared.phjob import Phase, Reason
from shared.settings import JobSubmission


@dataclass(frozen=True)
class Deadline:
    """When, and the order to give then."""

    at: datetime
    order: Order


def deadline(
    job: JobSeen, group_default: int | None, lost_since: datetime | None, settings: JobSubmission
) -> Deadline | None:
    """The job's next deadline; None if it has none.

    `group_default` is its group's active deadline in seconds; `lost_since`: since when its node, if it
    has one, is unresponsive.
    """
    return min(_deadlines(job, group_default, lost_since, settings), key=lambda due: due.at, default=None)


def _deadlines(
    job: JobSeen, group_default: int | None, lost_since: datetime | None, settings: JobSubmission
) -> Iterator[Deadline]:
    of = {"uid": job.uid, "name": job.name, "group": job.group, "fence": job.fence}
    lost = job.reason == Reason.NODE_LOST and not job.phase.final
    if job.phase is Phase.PREPARING and job.preparing_time and not lost:
        seconds = settings.preparing_timeout_seconds
        requeue = Requeue(**of, message=f"the pod did not start within {seconds} s")
        yield Deadline(_after(job.preparing_time, seconds), requeue)
    if job.phase is Phase.RUNNING and job.start_time:
        seconds = _first(job.active_deadline_seconds, group_default, settings.default_active_deadline_seconds)
        if seconds:
            message = f"it ran longer than its deadline of {seconds} s"
            time_out = TimeOut(**of, message=message, generation=job.generation)
            yield Deadline(_after(job.start_time, seconds), time_out)
    if lost and lost_since and settings.node_lost_grace_seconds:
        seconds = settings.node_lost_grace_seconds
        give_up = GiveUp(**of, message=f"node {job.node} was unresponsive for {seconds} s")
        yield Deadline(_after(lost_since, seconds), give_up)
    if job.phase.final and job.finish_time:
        ttl = _first(job.ttl_seconds_after_finished, settings.default_ttl_seconds_after_finished)
        if ttl:
            reclaim = Reclaim(**of, generation=job.generation)
            yield Deadline(_after(job.finish_time, ttl), reclaim)


def _after(moment: datetime, seconds: int) -> datetime:
    """So much later; the end of time if it is later still: a status may name the year 9999."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _first(*candidates: int | None) -> int:
    return next((seconds for seconds in candidates if seconds is not None), 0)
