"""When a job is over time, and what is to be done then (contract.md, Queueing 5 and Lifecycle).

Pure: a job's phase and times, its group's default and the settings give one deadline at most.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from shared.messages import JobSeen, Order, Reclaim, Requeue, TimeOut
from shared.phjob import Phase
from shared.settings import JobSubmission

Deadline = tuple[datetime, Order]
"""When, and the order to give then."""


def deadline(job: JobSeen, group_default: int | None, settings: JobSubmission) -> Deadline | None:
    """The job's next deadline; None if it has none. `group_default` is the group's, in seconds."""
    if job.phase is Phase.PREPARING:
        return _after(job.preparing_time, settings.preparing_timeout_seconds, _requeue, job)
    if job.phase is Phase.RUNNING:
        limit = _first(job.active_deadline_seconds, group_default, settings.default_active_deadline_seconds)
        return _after(job.start_time, limit, _time_out, job)
    if job.phase.final:
        ttl = _first(job.ttl_seconds_after_finished, settings.default_ttl_seconds_after_finished)
        return _after(job.finish_time, ttl, _reclaim, job)
    return None


def _first(*candidates: int | None) -> int:
    return next((seconds for seconds in candidates if seconds is not None), 0)


def _after(
    start: datetime | None, seconds: int, order: Callable[[JobSeen, int], Order], job: JobSeen
) -> Deadline | None:
    """`seconds` after the start; 0 is never."""
    if start is None or seconds == 0:
        return None
    return start + timedelta(seconds=seconds), order(job, seconds)


def _requeue(job: JobSeen, seconds: int) -> Order:
    return Requeue(
        uid=job.uid, name=job.name, group=job.group, fence=job.fence,
        message=f"the pod did not start within {seconds} s",
    )  # fmt: skip


def _time_out(job: JobSeen, seconds: int) -> Order:
    return TimeOut(
        uid=job.uid, name=job.name, group=job.group, fence=job.fence,
        message=f"it ran longer than its deadline of {seconds} s",
    )  # fmt: skip


def _reclaim(job: JobSeen, _: int) -> Order:
    return Reclaim(uid=job.uid, name=job.name, group=job.group, fence=job.fence)
